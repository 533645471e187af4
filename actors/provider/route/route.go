// Package route chooses among models, call by call: by how hard a request is
// ([Complexity]), by which model answers soonest ([Load]), by what a call may
// cost ([Cost]), or by what was learned from the outcomes so far ([Learned]).
//
// Each router is a provider.Model over models: agents, ladders and middlewares
// do not know that there is one. A router makes one choice for a call and stays
// with it: a failure passes as it is, for a provider.Ladder above to handle.
//
// The reply's Origin.Name is the choice, unless the chosen model named one
// itself; the event messages.RouteChosen says why.
package route

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// Choice is a model that a router may choose.
type Choice struct {
	// Name is what replies and events carry: a model's reference.
	Name  string
	Model provider.Model
}

// Outcome is how a call went that a router sent somewhere.
type Outcome struct {
	// Choice is the name of the model that was chosen.
	Choice string
	// Duration is from the call's start to its last chunk or failure.
	Duration time.Duration
	// Usage, Stop and Origin are those of a whole reply.
	Usage  messages.Usage
	Stop   messages.StopReason
	Origin *messages.Origin
	// Err is the call's failure; nil for a whole reply.
	Err error
	// Abandoned: the caller broke off, and nothing is known but the Duration.
	Abandoned bool
}

// checkChoices refuses names that are missing or the same, and missing models.
func checkChoices(router string, least int, choices []Choice) error {
	if n := len(choices); n < least || n > maxChoices {
		return bad(router, "choices", n, fmt.Sprintf("%d to %d", least, maxChoices))
	}
	seen := map[string]bool{}
	for i, c := range choices {
		switch field := fmt.Sprintf("choices[%d]", i); {
		case c.Name == "" || seen[c.Name]:
			return bad(router, field+".name", fmt.Sprintf("%q", c.Name), "a name that no other choice has")
		case c.Model == nil:
			return bad(router, field+".model", "nil", "a model")
		}
		seen[c.Name] = true
	}
	return nil
}

const maxChoices = 100

func bad(router, field string, value any, allowed string) error {
	return messages.Errorf(messages.Invalid, "", "%s: %s: %v is not allowed: use %s", router, field, value, allowed)
}

// base is what every router has.
type base struct {
	name    string // the router's
	choices []Choice
	clock   clockwork.Clock
	observe func(messages.Event)
}

func newBase(name, otherwise string, choices []Choice, clock clockwork.Clock, observe func(messages.Event)) base {
	if name == "" {
		name = otherwise
	}
	if clock == nil {
		clock = clockwork.NewRealClock()
	}
	return base{name, append([]Choice(nil), choices...), clock, observe}
}

// send makes the call on the i-th choice; why says in words how it was found.
// done, if not nil, hears of the outcome exactly once, after a panic too.
func (b *base) send(ctx context.Context, req *provider.Request, i int, why string, done func(Outcome), yield func(provider.Chunk, error) bool) {
	c := b.choices[i]
	start := b.clock.Now()
	if b.observe != nil {
		b.observe(messages.Event{Kind: messages.RouteChosen, Time: start, Name: b.name, Session: req.Session, Text: c.Name + ": " + why})
	}
	o := Outcome{Choice: c.Name, Abandoned: true}
	if done != nil {
		defer func() {
			o.Duration = b.clock.Since(start)
			done(o)
		}()
	}
	for chunk, err := range c.Model.Stream(ctx, req) {
		if err != nil {
			o.Err, o.Abandoned = err, false
		} else if chunk.Stop != "" {
			chunk.Origin = named(chunk.Origin, c.Name)
			o.Usage, o.Stop, o.Origin, o.Abandoned = chunk.Usage, chunk.Stop, chunk.Origin, false
		}
		if !yield(chunk, err) || err != nil {
			return
		}
	}
	if o.Abandoned { // it ended without a last chunk
		o.Abandoned = false
		o.Err = messages.Errorf(messages.Transient, c.Name, "the stream ended before its last chunk")
		yield(provider.Chunk{}, o.Err)
	}
}

// named is an origin that names the choice, if it names nothing closer.
func named(o *messages.Origin, name string) *messages.Origin {
	n := messages.Origin{}
	if o != nil {
		n = *o
	}
	if n.Name == "" {
		n.Name = name
	}
	return &n
}

// stream defers a router's choice to the moment at which the sequence is ranged
// over.
func stream(f func(yield func(provider.Chunk, error) bool)) iter.Seq2[provider.Chunk, error] {
	return f
}

// counts reports whether an outcome says anything about the model: not when the
// caller broke off or called it off, nor when the request was wrong.
func (o Outcome) counts() bool {
	if o.Abandoned {
		return false
	}
	switch messages.ClassOf(o.Err) {
	case messages.Canceled, messages.Stopping, messages.Fenced, messages.Budget, messages.Invalid:
		return false
	}
	return true
}

// inputTokens guesses how many tokens a request has, the reply's aside.
func inputTokens(req *provider.Request) int {
	r := *req
	r.Options.MaxTokens = 1
	return provider.EstimateTokens(&r) - r.Options.MaxTokens
}
