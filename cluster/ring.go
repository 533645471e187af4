package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// neighbours is how many nodes each node looks after: those that follow it in
// the order of names. When a node and all of those before it die at once, its
// lease runs out.
const neighbours = 2

// ring looks after a node's neighbours, and ends the lease of one that has died,
// so that nobody has to wait until it runs out. That a node is not connected
// comes back at once, from the server; a frozen one neither answers nor renews.
// A lease that was renewed meanwhile is not ended: the server sees to that.
type ring struct {
	nc    *nats.Conn
	name  string
	times leaseTimes
	// others are the nodes with a lease; of is one of them.
	others func() []messages.NodeInfo
	of     func(node string) (leased, bool)
	// end ends a lease unless it was renewed after that revision.
	end  func(ctx context.Context, node string, rev uint64) error
	warn func(error)

	mu      sync.Mutex
	watched map[string]*neighbour // by owner
	calm    time.Time             // nobody is judged before
}

// neighbour is what a node knows of one that it looks after.
type neighbour struct {
	asked    bool      // an answer is outstanding
	answered time.Time // the last time
	missing  time.Time // since when it is not connected; zero: it is
}

// look goes round until ctx ends.
func (r *ring) look(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(r.times.Ping)
	defer tick.Stop()
	connected := true
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		was := connected
		connected = r.nc.IsConnected()
		if connected && !was {
			r.forget() // the others may be coming back too
		}
		if !connected {
			continue
		}
		for _, n := range r.next() {
			if ping := r.ask(n); ping != nil {
				wg.Go(func() { ping(ctx) })
			}
		}
	}
}

func (r *ring) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = map[string]*neighbour{}
	r.calm = time.Now().Add(2 * r.times.Grace)
}

// next are the neighbours; nobody's for a node that has no lease itself.
func (r *ring) next() []messages.NodeInfo {
	all := r.others()
	at := -1
	for i, n := range all {
		if n.Node == r.name {
			at = i
		}
	}
	if at < 0 {
		return nil
	}
	var next []messages.NodeInfo
	for k := 1; k < len(all) && k <= neighbours; k++ {
		next = append(next, all[(at+k)%len(all)])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for owner := range r.watched { // those that are neighbours no more
		still := false
		for _, n := range next {
			still = still || n.Owner() == owner
		}
		if !still {
			delete(r.watched, owner)
		}
	}
	return next
}

// ask returns what asks a neighbour whether it lives; nil while it is asked.
func (r *ring) ask(n messages.NodeInfo) func(context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.watched[n.Owner()]
	if w == nil {
		w = &neighbour{answered: time.Now()}
		r.watched[n.Owner()] = w
	}
	if w.asked {
		return nil
	}
	w.asked = true
	return func(ctx context.Context) {
		_, err := r.nc.RequestWithContext(within(ctx, r.times.Grace), pulseSubject(n.Node), nil)
		if ctx.Err() == nil {
			r.judge(ctx, n, w, err)
		}
	}
}

// judge ends the neighbour's lease if it is dead.
func (r *ring) judge(ctx context.Context, n messages.NodeInfo, w *neighbour, err error) {
	now := time.Now()
	l, there := r.of(n.Node)
	r.mu.Lock()
	w.asked = false
	switch {
	case err == nil:
		w.answered, w.missing = now, time.Time{}
	case errors.Is(err, nats.ErrNoResponders) && w.missing.IsZero():
		w.missing = now
	}
	// A renewal is a sign of life as good as an answer.
	if w.answered.Before(l.heard) {
		w.answered = l.heard
	}
	if !w.missing.IsZero() && w.missing.Before(l.heard) {
		w.missing = l.heard
	}
	dead := err != nil && now.Sub(w.answered) >= r.times.Silence || !w.missing.IsZero() && now.Sub(w.missing) >= r.times.Grace
	dead = dead && there && l.Epoch == n.Epoch && now.After(r.calm)
	r.mu.Unlock()
	if !dead {
		return
	}
	if err := r.end(ctx, n.Node, l.rev); err != nil && !passes(err) && apiCode(err) != jetstream.JSErrCodeStreamWrongLastSequence {
		r.warn(messages.AsError(err, messages.Unavailable, "ending the lease of node "+n.Node))
	}
}

// within bounds a context for a call that returns by itself; its timer is freed
// when it fires.
func within(ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(ctx, cancel)
	return ctx
}
