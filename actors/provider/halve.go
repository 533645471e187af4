package provider

import (
	"context"
	"iter"
	"time"

	"github.com/covey-run/covey/messages"
)

// HalvingConfig says what happens when a conversation does not fit the model.
// The zero value drops the older half of it, once.
type HalvingConfig struct {
	// Name is the model, in events.
	Name string
	// Times is how often a call's history may be halved. Zero: 1. At most 8.
	Times int
	// Observe hears of each ([messages.HistoryHalved]). It must not block. nil:
	// nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c HalvingConfig) Check() error {
	if c.Times < 0 || c.Times > 8 {
		return badField("halving", "times", c.Times, "1 to 8, or 0 for 1")
	}
	return nil
}

// Halving makes a call that failed with class context_length again with half of
// its history ([HalfHistory]). Under an agent the turn does this; it is for
// programs without one. It holds no state between calls.
type Halving struct{ cfg HalvingConfig }

// NewHalving fails only with cfg's Check.
func NewHalving(cfg HalvingConfig) (*Halving, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Times == 0 {
		cfg.Times = 1
	}
	return &Halving{cfg}, nil
}

// Wrap is a [Middleware].
func (h *Halving) Wrap(m Model) Model {
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			base := 0
			for n := 0; ; n++ {
				highest, delivered, bytes := 1, false, 0
				var failure error
				for chunk, err := range m.Stream(ctx, req) {
					if err != nil {
						failure = err
						break
					}
					highest = max(highest, chunk.Attempt)
					if base > 0 {
						chunk.Attempt = base + max(chunk.Attempt, 1)
					}
					delivered = true
					bytes += len(chunk.Text)
					if !yield(chunk, nil) {
						return
					}
				}
				if failure == nil {
					return
				}
				half := HalfHistory(req.Messages)
				if messages.ClassOf(failure) != messages.ContextLength || n == h.cfg.Times || half == nil || ctx.Err() != nil {
					yield(Chunk{}, failure)
					return
				}
				h.tell(req, failure, len(half))
				next := *req
				next.Messages = half
				if next.Key != "" {
					next.Key += "#half"
				}
				req = &next
				base += highest
				if delivered && !yield(brokenOff(base, bytes, failure), nil) {
					return
				}
			}
		}
	})
}

func (h *Halving) tell(req *Request, failure error, left int) {
	if h.cfg.Observe != nil {
		h.cfg.Observe(messages.Event{
			Kind: messages.HistoryHalved, Time: time.Now(), Name: h.cfg.Name, Session: req.Session, Count: left,
			Class: messages.ContextLength, Error: messages.AsError(failure, messages.ContextLength, h.cfg.Name),
		})
	}
}

// HalfHistory drops the older half of a conversation: system messages and the
// newest question stay, and a tool's result stays with its call. Where no
// message can go, the longest one loses the earlier half of its text. nil: there
// is nothing left to drop.
func HalfHistory(talk []messages.Message) []messages.Message {
	var system, rest []messages.Message
	for _, m := range talk {
		if m.Role == messages.System {
			system = append(system, m)
		} else {
			rest = append(rest, m)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	if kept := laterHalf(rest); len(kept) < len(rest) {
		return append(system, kept...)
	}
	longest := 0
	for i, m := range rest {
		if len(m.Content) > len(rest[longest].Content) {
			longest = i
		}
	}
	text := []rune(rest[longest].Content)
	if len(text) < 2*len(elided) {
		return nil
	}
	rest[longest].Content = elided + string(text[len(text)/2:])
	return append(system, rest...)
}

const elided = "[…] "

// laterHalf keeps the later half of a conversation without system messages,
// from a question on if there is one in it, else behind the newest question.
func laterHalf(rest []messages.Message) []messages.Message {
	for i := max(len(rest)/2, 1); i < len(rest); i++ {
		if rest[i].Role == messages.User {
			return rest[i:]
		}
	}
	cut := max(len(rest)/2, 1)
	for cut < len(rest) && rest[cut].Role == messages.ToolRole {
		cut++
	}
	if cut == len(rest) { // it ends with one call and its many results
		for cut--; cut > 0 && rest[cut].Role == messages.ToolRole; cut-- {
		}
	}
	for i := cut - 1; i >= 0; i-- {
		if rest[i].Role == messages.User {
			return append([]messages.Message{rest[i]}, rest[cut:]...)
		}
	}
	return rest[cut:]
}
