package provider

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/covey-run/covey/messages"
)

// The breaker's time is its own, so that other nodes can name it and tests can
// feed it; gobreaker counts. Each stretch of the breaker's life has a fresh
// counter, so that what belongs to an earlier one falls away.

// counter is gobreaker's count of the calls in one stretch.
type counter struct {
	two *gobreaker.TwoStepCircuitBreaker[struct{}]
	// owed are the failures that no success has forgiven. gobreaker's lock guards
	// it.
	owed int
}

// errTrip is the failure that opens a counter of probes.
var errTrip = errors.New("opened")

// never is a timeout that does not pass.
const never = 100 * 365 * 24 * time.Hour

// countFailures returns the counter of a closed breaker: it trips, and then
// refuses.
func (b *Breaker) countFailures() *counter {
	return b.newCounter(never, b.cfg.Failures)
}

// countProbes returns the counter of a half-open breaker. It half-opens itself a
// nanosecond after it was made, so it is made when the breaker opens.
func (b *Breaker) countProbes() *counter {
	c := b.newCounter(1, 1)
	if done, err := c.two.Allow(); err == nil {
		done(errTrip)
	}
	return c
}

func (b *Breaker) newCounter(timeout time.Duration, failures int) *counter {
	c := &counter{}
	c.two = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        b.cfg.Name,
		MaxRequests: uint32(b.cfg.Successes),
		Timeout:     timeout,
		ReadyToTrip: func(gobreaker.Counts) bool { return c.owed >= failures },
		IsSuccessful: func(err error) bool { // asked once for each call that counts
			if err == nil {
				c.owed = max(0, c.owed-1)
				return true
			}
			c.owed++
			return false
		},
		IsExcluded: func(err error) bool { return err != nil && err != errTrip && !b.blames(err) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			b.counted(c, to)
		},
	})
	return c
}

// counted runs under c's lock when its count changed the state.
func (b *Breaker) counted(c *counter, to gobreaker.State) {
	if to == gobreaker.StateHalfOpen || b.count.Load() != c { // the latter: being made, or replaced
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.count.Load() != c:
	case to == gobreaker.StateOpen:
		b.open(b.cfg.Clock.Now().Add(b.cfg.OpenFor), true)
	default:
		b.close(true)
	}
}

// look returns the state, after the change to half-open where its time has come,
// and the moment at which the newest opening ends.
func (b *Breaker) look() (BreakerState, time.Time) {
	if b.closed.Load() {
		return Closed, time.Time{}
	}
	b.mu.Lock()
	if now := b.cfg.Clock.Now(); b.state == Open && !now.Before(b.until) {
		b.state = HalfOpen
		b.count.Store(b.probes)
		b.add(messages.Event{Kind: messages.BreakerHalfOpen, Time: now}, true)
	}
	state, until := b.state, b.until
	b.mu.Unlock()
	b.tell()
	return state, until
}

// open is called with mu held.
func (b *Breaker) open(until time.Time, local bool) {
	b.state, b.until = Open, until
	b.closed.Store(false)
	b.count.Store(b.countFailures())
	b.probes = b.countProbes()
	e := messages.Event{Kind: messages.BreakerOpened, Time: b.cfg.Clock.Now(), Until: until, Error: b.last}
	if b.last != nil {
		e.Class = b.last.Class
	}
	b.add(e, local)
}

// close is called with mu held.
func (b *Breaker) close(local bool) {
	b.state, b.until, b.last = Closed, time.Time{}, nil
	b.count.Store(b.countFailures())
	b.closed.Store(true)
	b.add(messages.Event{Kind: messages.BreakerClosed, Time: b.cfg.Clock.Now()}, local)
}

// add is called with mu held.
func (b *Breaker) add(e messages.Event, local bool) {
	e.Name = b.cfg.Name
	if !local {
		e.Text = "another node's word"
	}
	b.news = append(b.news, news{e, local})
	b.pending.Add(1)
}

// tell hands the changes to the gate and the observer, with no lock held.
func (b *Breaker) tell() {
	if b.pending.Load() == 0 {
		return
	}
	b.mu.Lock()
	all := b.news
	b.news = nil
	b.pending.Store(0)
	b.mu.Unlock()
	for _, n := range all {
		if g := b.cfg.Gate; g != nil && n.local {
			switch n.event.Kind {
			case messages.BreakerOpened:
				g.Opened(b.cfg.Name, n.event.Until, n.event.Error)
			case messages.BreakerClosed:
				g.Closed(b.cfg.Name)
			}
		}
		if b.cfg.Observe != nil {
			b.cfg.Observe(n.event)
		}
	}
}
