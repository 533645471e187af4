package cluster

import (
	"context"
	"errors"
)

// With starts a node, calls do, and stops the node, whatever do returns. The
// error joins do's and the stop's.
func With(ctx context.Context, cfg Config, do func(ctx context.Context, n *Node) error) (err error) {
	n, err := Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Stop(context.WithoutCancel(ctx))) }()
	return do(ctx, n)
}
