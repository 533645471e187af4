package route

import (
	"context"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// Provider is the name under which routers are models: "router/smart".
const Provider = "router"

// Settings describe a router as data. A choice is a model's reference.
type Settings struct {
	By string `json:"by" jsonschema:"complexity: easy requests go to simple, hard ones to complex; load: to the one that is likely to answer first; cost: to the best one within the budget; learned: to the one that did best with such requests"`
	// Choices are for load, cost (the best first) and learned.
	Choices []string `json:"choices,omitempty" jsonschema:"of load, cost and learned: the models; of cost the best first"`
	// Simple, Medium and Complex are for complexity.
	Simple  string   `json:"simple,omitempty" jsonschema:"of complexity: the model for easy requests"`
	Medium  string   `json:"medium,omitempty" jsonschema:"of complexity: the model for those between; complex if not given"`
	Complex string   `json:"complex,omitempty" jsonschema:"of complexity: the model for hard requests"`
	Low     *float64 `json:"low,omitempty" jsonschema:"of complexity: below this score a request is easy; 0.3 if not given"`
	High    *float64 `json:"high,omitempty" jsonschema:"of complexity: above this score it is hard; 0.7 if not given"`
	// PerCall, Budget and Every are for cost.
	PerCall float64            `json:"per_call,omitempty" jsonschema:"of cost: what one call may cost, in dollars; no limit if not given"`
	Budget  float64            `json:"budget,omitempty" jsonschema:"of cost: what all calls may cost together, in dollars; no limit if not given"`
	Every   *provider.Duration `json:"every,omitempty" jsonschema:"of cost: how often the budget begins anew; never if not given"`
}

// Kinds are what a router may choose by.
func Kinds() []string { return []string{"complexity", "cost", "learned", "load"} }

// Refs are the models that the router may choose, each once.
func (s Settings) Refs() []string {
	var refs []string
	for _, ref := range append([]string{s.Simple, s.Medium, s.Complex}, s.Choices...) {
		if ref != "" && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// Parts are what a router of settings works with.
type Parts struct {
	// Model is the model of a reference. Needed.
	Model func(ref string) provider.Model
	// Price is what a model costs, false where nobody said. Needed for cost.
	Price func(ref string) (provider.Price, bool)
	// Store keeps what was learned. nil: it is forgotten with the process.
	Store   Store
	Clock   clockwork.Clock
	Observe func(messages.Event)
}

// Router is a model that holds something, and lets go of it when it is closed.
type Router interface {
	provider.Model
	Close(ctx context.Context) error
}

type unclosed struct{ provider.Model }

func (unclosed) Close(context.Context) error { return nil }

func closable[M provider.Model](m M, err error) (Router, error) {
	if err != nil {
		return nil, err
	}
	return unclosed{m}, nil
}

// New makes the router. Class invalid: a setting is missing, out of range, or
// has no place in such a router; for cost, a model has no price.
func (s Settings) New(ctx context.Context, name string, p Parts) (Router, error) {
	source := "router " + name
	given := map[string]bool{
		"choices": len(s.Choices) > 0, "simple": s.Simple != "", "medium": s.Medium != "", "complex": s.Complex != "",
		"low": s.Low != nil, "high": s.High != nil, "per_call": s.PerCall != 0, "budget": s.Budget != 0, "every": s.Every != nil,
	}
	takes := map[string][]string{
		"complexity": {"simple", "medium", "complex", "low", "high"}, "cost": {"choices", "per_call", "budget", "every"},
		"load": {"choices"}, "learned": {"choices"},
	}[s.By]
	if takes == nil {
		return nil, bad(source, "by", s.By, "one of complexity, cost, learned, load")
	}
	for _, key := range []string{"choices", "simple", "medium", "complex", "low", "high", "per_call", "budget", "every"} {
		if given[key] && !slices.Contains(takes, key) {
			return nil, bad(source, key, "it", "nothing: a router by "+s.By+" takes none")
		}
	}
	choice := func(ref string) Choice {
		if ref == "" {
			return Choice{}
		}
		return Choice{Name: ref, Model: p.Model(ref)}
	}
	var choices []Choice
	for _, ref := range s.Choices {
		choices = append(choices, choice(ref))
	}
	ref := Provider + "/" + name
	switch s.By {
	case "complexity":
		c := ComplexityConfig{Name: ref, Simple: choice(s.Simple), Medium: choice(s.Medium), Complex: choice(s.Complex), Clock: p.Clock, Observe: p.Observe}
		for _, t := range []struct {
			key   string
			given *float64
			to    *float64
		}{{"low", s.Low, &c.Low}, {"high", s.High, &c.High}} {
			if t.given == nil {
				continue
			}
			if *t.given <= 0 || *t.given > 1 {
				return nil, bad(source, t.key, *t.given, "a score above 0, up to 1")
			}
			*t.to = *t.given
		}
		return closable(NewComplexity(c))
	case "load":
		return closable(NewLoad(LoadConfig{Name: ref, Choices: choices, Clock: p.Clock, Observe: p.Observe}))
	case "cost":
		prices := map[string]provider.Price{}
		for _, ref := range s.Choices {
			if price, ok := p.Price(ref); ok {
				prices[ref] = price
			}
		}
		c := CostConfig{Name: ref, Choices: choices, Prices: prices, PerCall: s.PerCall, Budget: s.Budget, Clock: p.Clock, Observe: p.Observe}
		if s.Every != nil {
			if *s.Every <= 0 {
				return nil, bad(source, "every", *s.Every, "a positive duration")
			}
			c.Every = time.Duration(*s.Every)
		}
		return closable(NewCost(c))
	}
	m, err := NewLearned(ctx, LearnedConfig{Name: name, Choices: choices, Store: p.Store, Clock: p.Clock, Observe: p.Observe})
	if err != nil {
		return nil, err
	}
	return m, nil
}
