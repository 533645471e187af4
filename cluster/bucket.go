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
				err = settling(find(ctx)) // another node was faster
			}
		}
		return err
	})
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, what)
	}
	return kv, nil
}

// bucketStream returns the stream under a bucket that has been opened.
func bucketStream(ctx context.Context, js jetstream.JetStream, bucket string) (s jetstream.Stream, err error) {
	err = retrying(nil).retry(ctx, "bucket "+bucket, func(ctx context.Context) (err error) {
		s, err = js.Stream(ctx, "KV_"+bucket)
		return settling(err)
	})
	return s, err
}

// settling is err, for what is there and was not found. On a cluster one server
// may not know yet what another has just made: that passes.
func settling(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		return errSettling
	}
	return err
}

var errSettling = errors.New("it is being made, and not every server knows it yet")
