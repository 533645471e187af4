package cluster

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// openBucket returns the bucket of that config, made if it is not there, with as
// many replicas as the servers are good for unless want says how many. It
// waits within ctx, and at most [openIn], for a JetStream that is away.
func openBucket(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig) (kv jetstream.KeyValue, err error) {
	ctx, cancel := context.WithTimeout(ctx, openIn)
	defer cancel()
	what := "bucket " + want.Bucket
	want.History, want.Storage = 1, jetstream.FileStorage
	err = retrying(nil).retry(ctx, what, func(ctx context.Context) (err error) {
		find := func(ctx context.Context) (err error) {
			kv, err = js.KeyValue(ctx, want.Bucket)
			return err
		}
		err = guarded(ctx, js.Conn(), "$JS.API.STREAM.INFO.KV_"+want.Bucket, find)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			err = replicated(want.Replicas, func(replicas int) error {
				want := want
				want.Replicas = replicas
				return made(ctx, js, "$JS.API.STREAM.CREATE.KV_"+want.Bucket, func(ctx context.Context) (err error) {
					kv, err = js.CreateKeyValue(ctx, want)
					return err
				})
			})
			if errors.Is(err, jetstream.ErrBucketExists) {
				err = find(ctx) // another node was faster
			}
		}
		return err
	})
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, what)
	}
	return kv, nil
}
