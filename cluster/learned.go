package cluster

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// learnedBucket keeps what routers have learned, by their names. Of two nodes
// that save, the later one's word stays.
const learnedBucket = "COVEY_ROUTERS"

// learned is a [route.Store] over a KV bucket.
type learned struct {
	nc       *nats.Conn
	replicas int
}

func (l learned) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	if err := messages.CheckName("router", name); err != nil {
		return nil, err
	}
	js, err := jetStream(l.nc)
	if err != nil {
		return nil, err
	}
	return openBucket(ctx, js, jetstream.KeyValueConfig{Bucket: learnedBucket, Description: "Covey: what routers have learned", Replicas: l.replicas})
}

// Load is part of [route.Store].
func (l learned) Load(ctx context.Context, name string) ([]byte, error) {
	kv, err := l.bucket(ctx, name)
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "bucket "+learnedBucket)
	}
	e, err := kv.Get(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, nil
	case err != nil:
		return nil, messages.AsError(err, messages.Unavailable, "bucket "+learnedBucket)
	}
	return e.Value(), nil
}

// Save is part of [route.Store].
func (l learned) Save(ctx context.Context, name string, data []byte) error {
	kv, err := l.bucket(ctx, name)
	if err == nil {
		_, err = kv.Put(ctx, name, data)
	}
	if err != nil {
		return messages.AsError(err, messages.Unavailable, "bucket "+learnedBucket)
	}
	return nil
}
