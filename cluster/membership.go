package cluster

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// membership is the nodes of a cluster, this one included: an [actors.Nodes].
type membership struct {
	nc     *nats.Conn
	lease  *lease
	roster *roster
	quit   context.CancelFunc
	wg     sync.WaitGroup
}

// membershipOptions are what a node has to say and to hear.
type membershipOptions struct {
	Name     string
	Replicas int // of the bucket, if it has to be made
	Times    leaseTimes
	Info     func() messages.NodeInfo
	// Fence stops what runs in the name of this node's lease, which is over.
	Fence func(*messages.Error)
	// Joined and Lost are told of every lease that begins and that is over, this
	// node's too. They must not block.
	Joined func(messages.NodeInfo)
	Lost   func(messages.NodeInfo)
	Warn   func(error)
}

// join takes a lease and learns who else has one.
func join(ctx context.Context, nc *nats.Conn, o membershipOptions) (_ *membership, err error) {
	js, err := jetStream(nc)
	if err != nil {
		return nil, err
	}
	kv, err := openLeases(ctx, js, o.Replicas)
	if err != nil {
		return nil, err
	}
	stream, err := bucketStream(ctx, js, leaseBucket)
	if err != nil {
		return nil, err
	}
	o.Times = o.Times.withDefaults()
	m := &membership{nc: nc, roster: newRoster(o.Joined, o.Lost, o.Warn)}
	m.lease = &lease{
		nc: nc, js: js, kv: kv, stream: stream, name: o.Name, times: o.Times,
		info: o.Info, fence: o.Fence, warn: o.Warn, poke: make(chan struct{}, 1), held: make(chan struct{}), renewed: make(chan struct{}),
	}
	if err := m.lease.first(ctx); err != nil {
		return nil, err
	}
	// Its neighbours look after it from now on.
	if err := servePulse(nc, o.Name, func() string { return m.Self().Owner() }); err != nil {
		_ = m.lease.release(context.WithoutCancel(ctx)) // the error is the start's
		return nil, err
	}
	run, quit := context.WithCancel(context.Background())
	m.quit = quit
	listen, err := keyWatch{nc: nc, kv: kv, keys: "*", take: m.take, listed: m.roster.whole}.begin(run)
	if err != nil {
		_ = m.leave(context.WithoutCancel(ctx)) // the error is the start's
		return nil, messages.AsError(err, messages.Unavailable, "bucket "+leaseBucket)
	}
	m.wg.Go(listen)
	m.wg.Go(func() { m.lease.keep(run) })
	r := &ring{
		watched: map[string]*neighbour{},
		nc:      nc, name: o.Name, times: o.Times, of: m.roster.of, warn: o.Warn,
		others: func() []messages.NodeInfo { all, _ := m.roster.live(); return all },
		end:    func(ctx context.Context, node string, rev uint64) error { return endLease(ctx, kv, node, rev) },
	}
	m.wg.Go(func() { r.look(run) })
	select {
	case <-m.roster.listed:
		return m, nil
	case <-ctx.Done():
		_ = m.leave(context.WithoutCancel(ctx)) // the error is the start's
		return nil, messages.AsError(context.Cause(ctx), messages.Timeout, "bucket "+leaseBucket)
	}
}

// take hears one change of the bucket.
func (m *membership) take(e jetstream.KeyValueEntry) {
	m.roster.take(e)
	n, there := m.roster.of(m.lease.name)
	m.lease.heard(n.Epoch, there, m.roster.count())
}

// leave gives the lease back, and hears no more.
func (m *membership) leave(ctx context.Context) error {
	m.quit()
	m.wg.Wait()
	return m.lease.release(ctx)
}

// Self is part of [actors.Nodes].
func (m *membership) Self() messages.NodeInfo {
	return messages.NodeInfo{Node: m.lease.name, Epoch: m.lease.current()}
}

// Confirm is part of [actors.Nodes].
func (m *membership) Confirm(ctx context.Context, epoch uint64) error {
	return m.lease.confirm(ctx, epoch)
}

// Live is part of [actors.Nodes].
func (m *membership) Live() ([]messages.NodeInfo, <-chan struct{}) { return m.roster.live() }

// Lost is part of [actors.Nodes].
func (m *membership) Lost(node string, epoch uint64) <-chan struct{} {
	return m.roster.end(node, epoch)
}

// Place is part of [actors.Nodes].
func (m *membership) Place(ctx context.Context, node string, place messages.Place) error {
	subject := nodeSubject(node, verbPlace)
	h, data, err := messages.Encode(messages.Envelope{Run: place.Task.ID, Writer: place.Owner, Time: now(), Trace: traceparent(ctx), Body: &place})
	if err != nil {
		return messages.AsError(err, messages.Invalid, subject)
	}
	word := &nats.Msg{Subject: subject, Header: h, Data: data}
	var r *nats.Msg
	// One try: it is for the node to take its time. Only this node's connection,
	// where that is away, is waited for.
	err = retrying(nil).retryWithin(ctx, hostWithin, subject, func(ctx context.Context) error {
		return guarded(ctx, m.nc, subject, func(ctx context.Context) (err error) {
			r, err = m.nc.RequestMsgWithContext(ctx, word)
			if errors.Is(err, nats.ErrNoResponders) {
				err = messages.Errorf(messages.Unavailable, subject, "there is no such node: %w", err)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	return receipt(r.Data, subject)
}
