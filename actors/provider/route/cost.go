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

// CostConfig sends each call to the best model that the budget allows.
type CostConfig struct {
	// Name is the router, in events and errors. "": "cost".
	Name string
	// Choices are the models, the best first; 1 to 100.
	Choices []Choice
	// Prices has one for each choice, by its name; a model that costs nothing
	// needs a price of zero.
	Prices map[string]provider.Price
	// PerCall is what one call may cost, in dollars, and Budget what all calls
	// may cost together. Zero: no limit; one of them must be set.
	PerCall, Budget float64
	// Every is how often the budget begins anew. Zero: never.
	Every time.Duration
	// Spent is what was spent of the budget before, in dollars.
	Spent float64
	// OutputTokens is how long a reply is taken to be where the request sets no
	// limit (MaxTokens). Zero: 1000.
	OutputTokens int
	// Clock measures Every. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each choice ([messages.RouteChosen]). It must not block.
	// nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range, and the choice that has no price.
func (c CostConfig) Check() error {
	const router = "cost router"
	amount := func(f float64) bool { return f >= 0 && !math.IsInf(f, 1) }
	switch {
	case !amount(c.PerCall):
		return bad(router, "per_call", c.PerCall, "dollars, or 0 for no limit")
	case !amount(c.Budget):
		return bad(router, "budget", c.Budget, "dollars, or 0 for no limit")
	case c.PerCall == 0 && c.Budget == 0:
		return bad(router, "budget", 0, "dollars here or in per_call: without a limit there is nothing to choose by")
	case !amount(c.Spent):
		return bad(router, "spent", c.Spent, "dollars, 0 or more")
	case c.Every < 0:
		return bad(router, "every", c.Every, "a positive duration, or 0 for never")
	case c.OutputTokens < 0:
		return bad(router, "output_tokens", c.OutputTokens, "a number of at least 1, or 0 for 1000")
	}
	if err := checkChoices(router, 1, c.Choices); err != nil {
		return err
	}
	for _, choice := range c.Choices {
		p, ok := c.Prices[choice.Name]
		if !ok {
			return bad(router, "prices."+choice.Name, "none", "a price in dollars per million tokens, 0 for what is free")
		}
		cached := 0.0
		if p.Cached != nil {
			cached = *p.Cached
		}
		for field, v := range map[string]float64{"input": p.Input, "output": p.Output, "cached": cached} {
			if !amount(v) {
				return bad(router, "prices."+choice.Name+"."+field, v, "dollars per million tokens, 0 or more")
			}
		}
	}
	return nil
}

// Cost is a router by price. What a call may cost is estimated before it and
// held back from the budget while it runs; what it did cost, by the usage that
// the provider reports, is counted after. A failed call that reports no usage
// costs nothing. When no model fits, the call fails with class budget.
type Cost struct {
	base
	cfg CostConfig

	mu    sync.Mutex // guards the rest; held for a few instructions only
	spent float64
	held  float64 // estimates of the calls that run
	since time.Time
}

// NewCost fails only with cfg's Check.
func NewCost(cfg CostConfig) (*Cost, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.OutputTokens == 0 {
		cfg.OutputTokens = 1000
	}
	r := &Cost{base: newBase(cfg.Name, "cost", cfg.Choices, cfg.Clock, cfg.Observe), cfg: cfg, spent: cfg.Spent}
	r.since = r.clock.Now()
	return r, nil
}

// Spent returns what was spent of the present budget, in dollars.
func (r *Cost) Spent() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renew()
	return r.spent
}

// Estimate is what a call on a choice may cost, in dollars: the request's tokens
// and the longest reply that it allows.
func (r *Cost) Estimate(choice string, req *provider.Request) float64 {
	out := r.cfg.OutputTokens
	if req.Options.MaxTokens > 0 {
		out = req.Options.MaxTokens
	}
	return r.cfg.Prices[choice].Cost(messages.Usage{InputTokens: inputTokens(req), OutputTokens: out})
}

// Stream makes the call on the first model whose estimate fits.
func (r *Cost) Stream(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return stream(func(yield func(provider.Chunk, error) bool) {
		i, estimate, err := r.choose(req)
		if err != nil {
			yield(provider.Chunk{}, err)
			return
		}
		r.send(ctx, req, i, fmt.Sprintf("estimated at $%.6f", estimate), func(o Outcome) {
			r.settle(estimate, r.cfg.Prices[o.Choice].Cost(o.Usage))
		}, yield)
	})
}

func (r *Cost) choose(req *provider.Request) (int, float64, error) {
	estimates := make([]float64, len(r.choices))
	for i, c := range r.choices {
		estimates[i] = r.Estimate(c.Name, req)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renew()
	left := math.Inf(1)
	if r.cfg.Budget > 0 {
		left = r.cfg.Budget - r.spent - r.held
	}
	may := left
	if r.cfg.PerCall > 0 {
		may = min(may, r.cfg.PerCall)
	}
	cheapest := 0
	for i, e := range estimates {
		if e <= may {
			r.held += e
			return i, e, nil
		}
		if e < estimates[cheapest] {
			cheapest = i
		}
	}
	e := messages.Errorf(messages.Budget, r.name, "the cheapest model, %s, is estimated at $%.6f and $%.6f may be spent", r.choices[cheapest].Name, estimates[cheapest], max(may, 0))
	if r.cfg.Every > 0 && may == left {
		e.Until = r.since.Add(r.cfg.Every)
	}
	return 0, 0, e
}

func (r *Cost) settle(estimate, cost float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renew()
	r.held = max(r.held-estimate, 0)
	r.spent += cost
}

// renew begins the budget anew when its time has come. The lock is held.
func (r *Cost) renew() {
	if r.cfg.Every == 0 {
		return
	}
	if n := r.clock.Since(r.since) / r.cfg.Every; n > 0 {
		r.since, r.spent = r.since.Add(n*r.cfg.Every), 0
	}
}
