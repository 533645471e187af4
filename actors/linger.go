package actors

import (
	"context"
	"time"
)

// lingering is a context that lasts as long as ctx, and a while longer: what has
// happened is to reach the journal however long that is away, and also when the
// work that it is of was just called off.
func lingering(ctx context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(while)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-out.Done():
		}
	})
	return out, func() { stop(); cancel() }
}
