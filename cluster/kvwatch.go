package cluster

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// keyWatch hears what happens to the keys of a bucket, until its context ends. A
// watch alone needs 10 s and more to find that the connection was away, so that
// it is begun anew, with a whole listing, when it is back.
type keyWatch struct {
	nc   *nats.Conn
	kv   jetstream.KeyValue
	keys string
	// take is called with every change, listed after each whole listing. They
	// must not block.
	take   func(jetstream.KeyValueEntry)
	listed func()
}

// begin makes the first watch; what it returns hears until ctx ends.
func (k keyWatch) begin(ctx context.Context) (listen func(), err error) {
	w, err := k.kv.Watch(ctx, k.keys)
	if err != nil {
		return nil, err
	}
	back := k.nc.StatusChanged(nats.CONNECTED)
	return func() {
		defer k.nc.RemoveStatusListener(back)
		for k.follow(ctx, w, back) {
			_ = w.Stop()
			if w = k.again(ctx); w == nil {
				return
			}
		}
		_ = w.Stop()
	}, nil
}

// again makes a further watch; nil once ctx has ended.
func (k keyWatch) again(ctx context.Context) jetstream.KeyWatcher {
	for attempt := 1; ; attempt++ {
		w, err := k.kv.Watch(ctx, k.keys)
		if err == nil {
			return w
		}
		if retrying(nil).pause(ctx, "bucket "+k.kv.Bucket(), attempt, time.Now(), err) != nil {
			return nil
		}
	}
}

// follow returns true when the watch has to be begun anew.
func (k keyWatch) follow(ctx context.Context, w jetstream.KeyWatcher, back <-chan nats.Status) bool {
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return ctx.Err() == nil
			case e != nil:
				k.take(e)
			default: // that was all that was there
				k.listed()
			}
		case <-back:
			return true
		case <-ctx.Done():
			return false
		}
	}
}
