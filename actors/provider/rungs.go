package provider

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/covey-run/covey/messages"
)

// Rule answers a request without a model: by patterns, a table, a computation.
// false: it has no answer, and the next rung tries. It may ask [Failures] why it
// is asked.
type Rule func(ctx context.Context, req *Request) (text string, ok bool)

// RungRule is a rung of a plain function. Its answers carry name.
func RungRule(name string, rule Rule) Rung {
	return Rung{Name: name, Make: func() (Model, error) {
		if rule == nil {
			return nil, badField("rung", name, "nil", "a function")
		}
		return Answer(func(ctx context.Context, req *Request) (*Reply, error) {
			text, ok := rule(ctx, req)
			if !ok {
				return nil, messages.Errorf(messages.Unavailable, name, "no rule has an answer")
			}
			return said(text, name), nil
		}), nil
	}}
}

// Canned are answers that were written beforehand, by [Request.Kind]. The one
// under "" is for every kind that has none.
type Canned map[string]string

// Check returns an error of class invalid if there is no answer, or an empty
// one.
func (c Canned) Check() error {
	if len(c) == 0 {
		return badField("canned", "answers", "none", "at least one")
	}
	for _, kind := range slices.Sorted(maps.Keys(c)) {
		if c[kind] == "" {
			return badField("canned", fmt.Sprintf("answers[%q]", kind), `""`, "a text")
		}
	}
	return nil
}

// RungCanned is a rung of canned answers, "canned". A request of a kind that has
// none fails with class unavailable, and one whose format the answer does not
// fit with class malformed: the next rung tries.
func RungCanned(answers Canned) Rung {
	const name = "canned"
	answers = maps.Clone(answers)
	return Rung{Name: name, Make: func() (Model, error) {
		if err := answers.Check(); err != nil {
			return nil, err
		}
		return Answer(func(_ context.Context, req *Request) (*Reply, error) {
			text, ok := answers[req.Kind]
			if !ok {
				text, ok = answers[""]
			}
			if !ok {
				return nil, messages.Errorf(messages.Unavailable, name, "no answer for calls of kind %q; there are some for %q",
					req.Kind, slices.Sorted(maps.Keys(answers)))
			}
			if len(req.Format) > 0 {
				if err := Fits(req.Format, text); err != nil {
					return nil, messages.Errorf(messages.ClassOf(err), name, "the answer for calls of kind %q cannot be used: %w", req.Kind, err)
				}
			}
			return said(text, name), nil
		}), nil
	}}
}

// Parker keeps calls that no machine could answer, for people.
type Parker interface {
	// Park keeps the call and waits for a person's answer until ctx ends. The
	// same call (by its request's Key) parked again is one call. If the answer
	// does not come in time, the call stays parked and the error is of class
	// waiting, with the id under which it waits.
	Park(ctx context.Context, call ParkedCall) (*Reply, error)
}

// ParkedCall is a call for people, as plain data.
type ParkedCall struct {
	// Ladder is the ladder that it fell off.
	Ladder  string  `json:"ladder,omitempty"`
	Request Request `json:"request"`
	// Before are the failures of the rungs before, the first choice's first.
	Before []*messages.Error `json:"before,omitempty"`
}

// RungParked is the rung "parked", below all machines: the call waits for a
// person. ladder names it for them.
func RungParked(ladder string, p Parker) Rung {
	const name = "parked"
	return Rung{Name: name, Make: func() (Model, error) {
		if p == nil {
			return nil, messages.Errorf(messages.Invalid, name, "there is no parking place")
		}
		return Answer(func(ctx context.Context, req *Request) (*Reply, error) {
			return p.Park(ctx, ParkedCall{Ladder: ladder, Request: *req, Before: Failures(ctx)})
		}), nil
	}}
}
