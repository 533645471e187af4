package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// OutputConfig says what an answer must be, and what is done about one that is
// not. The zero value takes any text that is not empty, or what satisfies the
// request's Format, and asks up to 3 times more without waiting.
type OutputConfig struct {
	// Name is the model, in events and errors.
	Name string
	// Format is a JSON schema that judges answers to requests that have no
	// Format of their own. It is not sent to the model. nil: none.
	Format json.RawMessage
	// Required are fields that the JSON object must have.
	Required []string
	// AllowRaw takes free text where no JSON satisfies Format and Required.
	AllowRaw bool
	// Strategies replace the usual ones, see [Wanted].
	Strategies []Strategy
	// Validators judge what was parsed; the mean of their confidences decides.
	Validators []Validator
	// Accept is the mean above which a text is taken, Reject the one below which
	// it is refused; between them it is taken with a note
	// ([messages.Origin.Note]). Zero: 0.7 and 0.5. From 0 to 1.
	Accept, Reject float64
	// Attempts is how many calls there are in all, the first one included. Zero:
	// 4. 1: nothing is repaired.
	Attempts int
	// Repairs is how many refused answers are shown to the model for repair;
	// the attempts after those ask more simply. Zero: 2. Negative: none.
	Repairs int
	// Wait is before the second attempt, and doubles from one to the next. Zero:
	// no waits, as an answer that cannot be used is no reason to wait.
	Wait time.Duration
	// MaxTotal caps the sum of the waits of one call; a wait that would pass it
	// is not begun. Zero: 10 s.
	MaxTotal time.Duration
	// RetryCalls makes failed calls ([messages.Class.Retryable]) again too, so
	// that one count and one sum of waits hold for call and parse together. Only
	// where no [Retry] is inside: a call has one owner of retries.
	RetryCalls bool
	// Repair and Simplify make the next request. nil: [RepairPrompt] and
	// [SimplerPrompt], which then knows Format and Required too. They must not
	// change req.
	Repair   func(req *Request, refused *Reply, why error) *Request
	Simplify func(req *Request, why error) *Request
	// Clock measures waits. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each refused attempt that another one follows
	// ([messages.OutputRepaired]). It must not block. nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c OutputConfig) Check() error {
	share := func(f float64) bool { return f >= 0 && f <= 1 && !math.IsNaN(f) }
	d := c.withDefaults()
	switch {
	case !share(c.Accept):
		return badField("output", "accept", c.Accept, "0 to 1, 0 for 0.7")
	case !share(c.Reject):
		return badField("output", "reject", c.Reject, "0 to 1, 0 for 0.5")
	case d.Reject > d.Accept:
		return badField("output", "reject", d.Reject, fmt.Sprintf("at most accept, %v", d.Accept))
	case c.Attempts < 0:
		return badField("output", "attempts", c.Attempts, "a number of at least 1, or 0 for 4")
	case c.Wait < 0:
		return badField("output", "wait", c.Wait, "a positive duration, or 0 for none")
	case c.MaxTotal < 0:
		return badField("output", "max_total", c.MaxTotal, "a positive duration, or 0 for 10s")
	}
	for i, s := range c.Strategies {
		if s.Name == "" || s.Find == nil {
			return badField("output", fmt.Sprintf("strategies[%d]", i), fmt.Sprintf("%q", s.Name), "a name and a function Find")
		}
	}
	if slices.ContainsFunc(c.Validators, func(v Validator) bool { return v == nil }) {
		return badField("output", "validators", "nil", "functions")
	}
	if len(c.Format) > 0 {
		return CheckFormat(c.Format)
	}
	return nil
}

func (c OutputConfig) withDefaults() OutputConfig {
	if c.Accept == 0 {
		c.Accept = 0.7
	}
	if c.Reject == 0 {
		c.Reject = min(0.5, c.Accept)
	}
	if c.Attempts == 0 {
		c.Attempts = 4
	}
	if c.Repairs == 0 {
		c.Repairs = 2
	}
	if c.MaxTotal == 0 {
		c.MaxTotal = 10 * time.Second
	}
	if c.Repair == nil {
		c.Repair = RepairPrompt
	}
	if c.Clock == nil {
		c.Clock = clockwork.NewRealClock()
	}
	return c
}

// Output wraps a call and the reading of its answer: it parses by strategies in
// order, checks the schema, asks validators, and when the answer cannot be used
// shows it to the model for repair, then asks more simply, and at last fails
// with class malformed, so that a [Ladder] around it takes the next rung. A
// reply with tool calls is not judged: it is not the answer yet.
//
// A reply says how it was read: [messages.Origin] carries Strategy, Confidence
// and Note. Its Usage is the sum over all attempts.
//
// Where JSON is wanted the reply's text is the JSON that was found, and comes in
// one chunk when it has been judged. Free text streams as it comes; if it is
// refused, a chunk with [Chunk.Broken] says so, and the next attempt's carry a
// higher Attempt.
//
// An error says its tier ([TierOf]). A failure of the call passes as it is, with
// earlier refusals in Others. A request's Key gets a suffix after the first
// attempt: a repair is not the same call. It holds no state between calls.
type Output struct{ cfg OutputConfig }

// NewOutput fails only with cfg's Check.
func NewOutput(cfg OutputConfig) (*Output, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	return &Output{cfg.withDefaults()}, nil
}

// With returns a copy that asks further validators: for one call.
func (o *Output) With(validators ...Validator) *Output {
	c := *o
	c.cfg.Validators = slices.Concat(o.cfg.Validators, validators)
	return &c
}

// Wrap is a [Middleware].
func (o *Output) Wrap(m Model) Model {
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			c := &answering{cfg: &o.cfg, ctx: ctx, first: req, yield: yield, start: o.cfg.Clock.Now(), wanted: o.wanted(req)}
			for next := req; next != nil; {
				next = c.attempt(m, next)
			}
		}
	})
}

func (o *Output) wanted(req *Request) Wanted {
	w := Wanted{Format: req.Format, Required: o.cfg.Required, AllowRaw: o.cfg.AllowRaw, Strategies: o.cfg.Strategies}
	if len(w.Format) == 0 {
		w.Format = o.cfg.Format
	}
	return w
}
