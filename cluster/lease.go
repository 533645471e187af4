package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// leaseBucket is the KV bucket of the nodes' leases: the key is a node's name,
// the value its [messages.NodeInfo]. Keys with a dot are no leases.
const leaseBucket = "COVEY_NODES"

// leaseTimes are the times that leases go by. The zero value of each field is
// its default.
type leaseTimes struct {
	// TTL is how long a lease lasts that is not renewed: 15 s, so that it outlives
	// an election of the stream's leader (up to 9.8 s without renewals); three
	// times Renew where that is more.
	TTL time.Duration
	// Renew is the time between renewals: 1 s, more in a cluster of more than 32
	// nodes, for every node hears of every renewal.
	Renew time.Duration
	// Ping is the time between looks at a node's neighbours, 250 ms; Grace is how
	// long one may be disconnected, 1 s, and Silence how long it may neither
	// answer nor renew, 3 s, until a neighbour ends its lease.
	Ping, Grace, Silence time.Duration
}

func (t leaseTimes) withDefaults() leaseTimes {
	for _, f := range []struct {
		at  *time.Duration
		def time.Duration
	}{{&t.TTL, 15 * time.Second}, {&t.Renew, time.Second}, {&t.Ping, 250 * time.Millisecond}, {&t.Grace, time.Second}, {&t.Silence, 3 * time.Second}} {
		if *f.at == 0 {
			*f.at = f.def
		}
	}
	return t
}

// lease is this node's right to its name. It counts, by this node's own clock,
// from before its last renewal was sent, so that the node knows of its end before
// anybody else does.
type lease struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	kv     jetstream.KeyValue
	stream jetstream.Stream // under kv
	name   string
	times  leaseTimes
	// info is the node's word on itself, without its epoch.
	info func() messages.NodeInfo
	// fence stops what runs in the name of a lease that is over.
	fence func(*messages.Error)
	warn  func(error)
	poke  chan struct{} // renew now

	mu    sync.Mutex
	epoch uint64 // 0: none is held
	rev   uint64 // of the last renewal
	until time.Time
	ttl   time.Duration // as of the last renewal
	peers int
	seen  bool          // by the others
	held  chan struct{} // closed while one is held
	// renewed is closed when the lease is renewed next, or is over.
	renewed chan struct{}
}

// errNameTaken: another process has a lease of this node's name.
var errNameTaken = errors.New("another process has a lease of that name")

// subject is the key's in the stream.
func leaseSubject(name string) string { return "$KV." + leaseBucket + "." + name }

func openLeases(ctx context.Context, js jetstream.JetStream, replicas int) (jetstream.KeyValue, error) {
	return openBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: leaseBucket, Description: "Covey: the nodes' leases", LimitMarkerTTL: time.Minute, Replicas: replicas,
	})
}

// current is the epoch of the present lease, 0 for none. One that has run out by
// this node's clock is none, also where keep has not found out yet: a process that
// was frozen may go on anywhere.
func (l *lease) current() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !time.Now().Before(l.until) {
		return 0
	}
	return l.epoch
}

// confirm returns once a renewal was sent so short a time ago that nobody can
// have ended the lease before it: a neighbour gives a node that is not connected
// grace first.
func (l *lease) confirm(ctx context.Context, epoch uint64) error {
	for {
		l.mu.Lock()
		holds := l.epoch == epoch && time.Now().Before(l.until)
		age, renewed := time.Since(l.until.Add(-l.ttl)), l.renewed
		l.mu.Unlock()
		switch {
		case !holds:
			return messages.Errorf(messages.Fenced, "node "+l.name, "its lease %s is over", messages.Owner(l.name, epoch))
		case age < l.times.Grace*7/10:
			return nil
		}
		l.renewNow()
		select {
		case <-renewed:
		case <-ctx.Done():
			return messages.AsError(context.Cause(ctx), messages.Timeout, "the lease of node "+l.name)
		}
	}
}

// wait returns once a lease is held.
func (l *lease) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		held, epoch := l.held, l.epoch
		l.mu.Unlock()
		if epoch != 0 {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return messages.AsError(context.Cause(ctx), messages.Unavailable, "the lease of node "+l.name)
		}
	}
}

// renewNow has the others hear at once of something new.
func (l *lease) renewNow() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// first acquires the first lease. A name that a live node has is refused, class
// invalid; that of a node which is gone, or frozen, is waited for.
func (l *lease) first(ctx context.Context) error {
	began := time.Now()
	gone := 0
	for attempt := 1; ; attempt++ {
		err := l.acquire(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errNameTaken):
			_, perr := l.nc.RequestWithContext(within(ctx, l.times.Grace), pulseSubject(l.name), nil)
			switch {
			case perr == nil:
				return messages.Errorf(messages.Invalid, "", "config: name: %q is not allowed: a live node has that name (%w)", l.name, err)
			case errors.Is(perr, nats.ErrNoResponders):
				gone++
			}
			// It may be coming back from a short absence.
			if gone > 1 && time.Since(began) >= l.times.Grace {
				if err := l.takeAway(ctx); err != nil {
					l.warn(err)
				}
			}
		case !passes(err):
			return classed(err, "the lease of node "+l.name)
		}
		if err := retrying(nil).pause(ctx, "the lease of node "+l.name, min(attempt, 5), began, err); err != nil {
			return err
		}
	}
}

// takeAway ends a lease of this node's name that somebody else left behind.
func (l *lease) takeAway(ctx context.Context) error {
	e, err := l.kv.Get(ctx, l.name)
	if err != nil {
		return messages.AsError(err, messages.Unavailable, "the lease of node "+l.name)
	}
	return endLease(ctx, l.kv, l.name, e.Revision())
}

// endLease ends a lease unless it was renewed after that revision; then it fails
// with JSErrCodeStreamWrongLastSequence.
func endLease(ctx context.Context, kv jetstream.KeyValue, name string, rev uint64) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return kv.Purge(ctx, name, jetstream.LastRevision(rev), jetstream.PurgeTTL(time.Minute))
}

// acquire tries once. Its errors are raw; errNameTaken names who has the lease.
func (l *lease) acquire(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	var last uint64
	switch was, err := l.stream.GetLastMsgForSubject(ctx, leaseSubject(l.name)); {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return err
	default:
		if last = was.Sequence; len(was.Data) > 0 {
			return l.takenBy(was.Data)
		}
	}
	sent, ttl := time.Now(), l.lasts()
	seq, err := l.put(ctx, 0, last, sent, ttl)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.epoch, l.rev, l.until, l.ttl = seq, seq, sent.Add(ttl), ttl
	close(l.held)
	l.mu.Unlock()
	l.renewNow() // with the epoch in it
	return nil
}

func (l *lease) takenBy(data []byte) error {
	var i messages.NodeInfo
	if err := json.Unmarshal(data, &i); err != nil {
		return errNameTaken
	}
	return messages.Errorf(messages.Unavailable, "", "%w: pid %d on %s, since %s", errNameTaken, i.PID, i.Host, i.Started.Format(time.RFC3339))
}

// put writes the lease once, if last is the key's last revision.
func (l *lease) put(ctx context.Context, epoch, last uint64, at time.Time, ttl time.Duration) (uint64, error) {
	i := l.info()
	i.Epoch, i.At = epoch, at.UTC()
	data, err := json.Marshal(i)
	if err != nil {
		return 0, messages.AsError(err, messages.Invalid, "the lease of node "+l.name)
	}
	// KeyValue.Update takes no lifetime, and would make the lease permanent.
	var ack *jetstream.PubAck
	err = guarded(ctx, l.nc, leaseSubject(l.name), func(ctx context.Context) (err error) {
		ack, err = l.js.PublishMsg(ctx, &nats.Msg{Subject: leaseSubject(l.name), Data: data},
			jetstream.WithMsgTTL(ttl), jetstream.WithExpectLastSequencePerSubject(last), jetstream.WithRetryAttempts(0))
		return err
	})
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// keep renews the lease until ctx ends, fences the node when it is over, and
// acquires another then.
func (l *lease) keep(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-l.poke:
		}
		l.mu.Lock()
		held := l.epoch != 0
		l.mu.Unlock()
		var err error
		if held {
			err = l.renew(ctx)
		} else {
			err = l.acquire(ctx)
		}
		wait := l.interval()
		if err != nil && ctx.Err() == nil {
			if failures++; failures == 3 || failures%60 == 0 {
				l.warn(messages.AsError(err, messages.Unavailable, "the lease of node "+l.name))
			}
			wait = min(backoff(failures, err), l.times.Renew)
		} else {
			failures = 0
		}
		t.Reset(min(wait, l.left()))
	}
}

// interval is the time between renewals.
func (l *lease) interval() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return min(l.wanted(), cmp.Or(l.ttl, l.times.TTL)/3)
}

// wanted is the time between renewals that the number of nodes asks for; l.mu is
// held.
func (l *lease) wanted() time.Duration {
	return max(l.times.Renew, l.times.Renew*time.Duration(l.peers)/32)
}

// lasts is how long the next renewal is good for. The server counts whole
// seconds.
func (l *lease) lasts() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.times.TTL, (3 * l.wanted()).Truncate(time.Second))
}

// left is for how long the lease still counts; without one, a long time.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch == 0 {
		return l.times.TTL
	}
	return max(time.Until(l.until), 0)
}

// renew tries once to renew the lease that is held, and fences the node when it
// turns out to be over.
func (l *lease) renew(ctx context.Context) error {
	l.mu.Lock()
	epoch, rev, until, was := l.epoch, l.rev, l.until, l.ttl
	l.mu.Unlock()
	sent, ttl := time.Now(), l.lasts()
	if !sent.Before(until) {
		return l.over(epoch, "it could not be renewed in %v", was)
	}
	tctx, cancel := context.WithDeadline(ctx, minTime(sent.Add(attemptTimeout), until))
	defer cancel()
	seq, err := l.put(tctx, epoch, rev, sent, ttl)
	if apiCode(err) == jetstream.JSErrCodeStreamWrongLastSequence {
		// The acknowledgement of the renewal before may have been lost.
		last, gerr := l.stream.GetLastMsgForSubject(tctx, leaseSubject(l.name))
		switch {
		case gerr == nil && isLease(last.Data, last.Sequence, epoch):
			seq, err, sent, ttl = last.Sequence, nil, until.Add(-was), min(ttl, was)
		case gerr == nil || errors.Is(gerr, jetstream.ErrMsgNotFound):
			return l.over(epoch, "somebody has ended it")
		default:
			err = gerr
		}
	}
	if err == nil {
		l.mu.Lock()
		l.rev, l.until, l.ttl = seq, sent.Add(ttl), ttl
		until = l.until
		l.tell()
		l.mu.Unlock()
	}
	if !time.Now().Before(until) { // this process was frozen, as a rule
		return l.over(epoch, "this process did not run for longer than %v", ttl)
	}
	return err
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// over ends a lease on this node's side.
func (l *lease) over(epoch uint64, format string, args ...any) error {
	l.mu.Lock()
	if l.epoch == epoch {
		l.epoch, l.held = 0, make(chan struct{})
		l.tell()
	}
	l.mu.Unlock()
	why := messages.Errorf(messages.Fenced, "node "+l.name, "its lease %s is over: "+format, append([]any{messages.Owner(l.name, epoch)}, args...)...)
	l.fence(why)
	return why
}

// heard tells what the others see: whether there is a lease of this node's name,
// its epoch, and how many nodes there are. One that is not the present one means
// that somebody has ended it.
func (l *lease) heard(epoch uint64, there bool, peers int) {
	l.mu.Lock()
	l.peers = peers
	other := l.epoch != 0 && there && epoch != l.epoch || l.epoch != 0 && !there && l.seen
	l.seen = l.epoch != 0 && there && epoch == l.epoch
	l.mu.Unlock()
	if other {
		l.renewNow()
	}
}

// tell tells whoever waits for a renewal; l.mu is held.
func (l *lease) tell() {
	close(l.renewed)
	l.renewed = make(chan struct{})
}

// release gives the lease back. One that cannot be given back ends by itself.
func (l *lease) release(ctx context.Context) error {
	l.mu.Lock()
	epoch, rev := l.epoch, l.rev
	if epoch != 0 {
		l.epoch, l.held = 0, make(chan struct{})
		l.tell()
	}
	l.mu.Unlock()
	if epoch == 0 {
		return nil
	}
	return retrying(nil).retry(ctx, "node "+l.name+": giving its lease back, which ends by itself", func(ctx context.Context) error {
		err := endLease(ctx, l.kv, l.name, rev)
		if apiCode(err) != jetstream.JSErrCodeStreamWrongLastSequence {
			return err
		}
		e, err := l.kv.Get(ctx, l.name) // the last renewal was cut off, or it is over
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err == nil && isLease(e.Value(), e.Revision(), epoch) {
			rev = e.Revision()
			return errOvertaken
		}
		return err
	})
}

// isLease reports whether a value of the bucket is the lease of that epoch.
func isLease(value []byte, rev, epoch uint64) bool {
	var i messages.NodeInfo
	return json.Unmarshal(value, &i) == nil && cmp.Or(i.Epoch, rev) == epoch
}
