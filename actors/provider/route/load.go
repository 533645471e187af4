package route

import (
	"context"
	"fmt"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// LoadConfig sends each call to the model that is likely to answer it first.
type LoadConfig struct {
	// Name is the router, in events. "": "load".
	Name string
	// Choices are equals, 2 to 100; of two with the same estimate the first is
	// chosen.
	Choices []Choice
	// Weight is the newest call's share in the moving mean. Zero: 0.2. At most 1.
	Weight float64
	// Prior is the estimate of a model that is not known yet. Zero: 1 s.
	Prior time.Duration
	// Penalty is what a failed call counts as, if it did not take longer. Zero:
	// 30 s.
	Penalty time.Duration
	// HalfLife is how long it takes for half of what is known about an unused
	// model to be forgotten, so that one that was slow is tried again. Zero: 1
	// minute.
	HalfLife time.Duration
	// Clock measures. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each choice ([messages.RouteChosen]). It must not block.
	// nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c LoadConfig) Check() error {
	const router = "load router"
	switch {
	case !(c.Weight >= 0 && c.Weight <= 1):
		return bad(router, "weight", c.Weight, "above 0 to 1, or 0 for 0.2")
	case c.Prior < 0:
		return bad(router, "prior", c.Prior, "a positive duration, or 0 for 1s")
	case c.Penalty < 0:
		return bad(router, "penalty", c.Penalty, "a positive duration, or 0 for 30s")
	case c.HalfLife < 0:
		return bad(router, "half_life", c.HalfLife, "a positive duration, or 0 for 1m")
	}
	return checkChoices(router, 2, c.Choices)
}

// Load is a router by load. A model's estimate is the moving mean of how long
// its calls took, whole replies, times one more than the calls it is at.
type Load struct {
	base
	cfg LoadConfig

	mu    sync.Mutex // guards state; held for a few instructions only
	state []lane
}

// lane is what is known of one model.
type lane struct {
	mean     float64 // seconds, at the time of last
	last     time.Time
	inFlight int
}

// Estimate is what a [Load] router expects of a model.
type Estimate struct {
	Name string `json:"name"`
	// Mean is the moving mean of a call's duration, Expected that of a call made
	// now.
	Mean     time.Duration `json:"mean_ns"`
	Expected time.Duration `json:"expected_ns"`
	InFlight int           `json:"in_flight,omitempty"`
}

// NewLoad fails only with cfg's Check.
func NewLoad(cfg LoadConfig) (*Load, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Weight == 0 {
		cfg.Weight = 0.2
	}
	for _, d := range []struct {
		field     *time.Duration
		otherwise time.Duration
	}{{&cfg.Prior, time.Second}, {&cfg.Penalty, 30 * time.Second}, {&cfg.HalfLife, time.Minute}} {
		if *d.field == 0 {
			*d.field = d.otherwise
		}
	}
	r := &Load{base: newBase(cfg.Name, "load", cfg.Choices, cfg.Clock, cfg.Observe), cfg: cfg}
	for range cfg.Choices {
		r.state = append(r.state, lane{mean: cfg.Prior.Seconds(), last: r.clock.Now()})
	}
	return r, nil
}

// Estimates are the router's present ones, in the order of its choices.
func (r *Load) Estimates() []Estimate {
	now := r.clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Estimate
	for i, l := range r.state {
		mean := r.mean(l, now)
		all = append(all, Estimate{
			Name: r.choices[i].Name, InFlight: l.inFlight,
			Mean: seconds(mean), Expected: seconds(mean * float64(l.inFlight+1)),
		})
	}
	return all
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// mean is a lane's mean now: what was learned fades into the prior, half of it
// in each half-life.
func (r *Load) mean(l lane, now time.Time) float64 {
	kept := math.Exp2(-now.Sub(l.last).Seconds() / r.cfg.HalfLife.Seconds())
	prior := r.cfg.Prior.Seconds()
	return prior + (l.mean-prior)*kept
}

// Stream makes the call on the model with the lowest estimate.
func (r *Load) Stream(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return stream(func(yield func(provider.Chunk, error) bool) {
		i, expected := r.choose()
		why := fmt.Sprintf("expected in %v", seconds(expected).Round(time.Millisecond))
		r.send(ctx, req, i, why, func(o Outcome) { r.settle(i, o) }, yield)
	})
}

func (r *Load) choose() (best int, expected float64) {
	now := r.clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, l := range r.state {
		if e := r.mean(l, now) * float64(l.inFlight+1); i == 0 || e < expected {
			best, expected = i, e
		}
	}
	r.state[best].inFlight++
	return best, expected
}

func (r *Load) settle(i int, o Outcome) {
	now := r.clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.state[i]
	l.inFlight--
	if !o.counts() {
		return
	}
	took := o.Duration
	if o.Err != nil {
		took = max(took, r.cfg.Penalty)
	}
	l.mean, l.last = r.mean(*l, now)*(1-r.cfg.Weight)+took.Seconds()*r.cfg.Weight, now
}
