package cluster

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// openBucket returns the bucket of that config, made if it is not there. It
// waits within ctx, and at most [openIn], for a JetStream that is away.
func openBucket(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig) (kv jetstream.KeyValue, err error) {
	ctx, cancel := context.WithTimeout(ctx, openIn)
	defer cancel()
	what := "bucket " + want.Bucket
	want.History, want.Storage = 1, jetstream.FileStorage
	err = retrying(nil).retry(ctx, what, func(ctx context.Context) (err error) {
		if kv, err = js.KeyValue(ctx, want.Bucket); errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = js.CreateKeyValue(ctx, want)
			if errors.Is(err, jetstream.ErrBucketExists) {
				kv, err = js.KeyValue(ctx, want.Bucket) // another node was faster
			}
		}
		return err
	})
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, what)
	}
	return kv, nil
}
