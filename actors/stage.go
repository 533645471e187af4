package actors

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/covey-run/covey/messages"
)

// Stage is what a plan acts on. Each call is a step with a stable key: its
// place in the plan. What it comes to is journalled before the plan sees it, and
// when the run is walked again it is answered from the journal. A stage is used
// by one goroutine; [Stage.Parallel] gives each branch one of its own.
type Stage struct {
	host   *host
	prompt string
	format json.RawMessage
	said   []messages.Said
	prefix string

	mu sync.Mutex
	n  int
}

// Prompt is what the team was asked.
func (s *Stage) Prompt() string { return s.prompt }

// Discussion is what was said before the team was asked, oldest first; empty
// for a run's own team.
func (s *Stage) Discussion() []messages.Said { return s.said }

// Members are the names of the team's members, in the team's order.
func (s *Stage) Members() []string {
	names := make([]string, len(s.host.members))
	for i, m := range s.host.members {
		names[i] = m.MemberName()
	}
	return names
}

// next is the key of the plan's next step.
func (s *Stage) next() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return s.prefix + strconv.Itoa(s.n)
}

// Ask asks a member and waits for its answer. discussion is what the member
// shall know was said before. A member that crashes is restarted and goes on
// where it was; Ask fails when the member cannot answer, with the class of its
// failure, and with class invalid when there is no such member.
func (s *Stage) Ask(ctx context.Context, member, prompt string, discussion ...messages.Said) (messages.Answer, error) {
	return s.ask(ctx, messages.Ask{To: member, Prompt: prompt, Discussion: discussion})
}

// Conclude is Ask for the plan's final answer: the member is told the format
// that the task asks for, if any.
func (s *Stage) Conclude(ctx context.Context, member, prompt string, discussion ...messages.Said) (messages.Answer, error) {
	return s.ask(ctx, messages.Ask{To: member, Prompt: prompt, Discussion: discussion, Format: s.format})
}

func (s *Stage) ask(ctx context.Context, a messages.Ask) (messages.Answer, error) {
	h := s.host
	if !h.has(a.To) {
		return messages.Answer{}, messages.Errorf(messages.Invalid, h.path, "no member %q: the members are %v", a.To, s.Members())
	}
	a.Step, a.From, a.To = s.next(), h.address(), join(h.path, a.To)
	if err := step(ctx, s, a.Step, &messages.Asked{Ask: a}); err != nil {
		return messages.Answer{}, err
	}
	if rec := find[messages.Answered](h.scope.log, a.To, a.Step, nil); rec != nil {
		h.scope.emit(messages.Event{Kind: messages.StepFromRecord, Step: a.Step, Name: a.To, Text: "answer"})
		return settle(rec.Reply)
	}
	if err := h.scope.proceed(); err != nil {
		return messages.Answer{}, err
	}
	h.scope.emit(messages.Event{Kind: messages.AskSent, Step: a.Step, Name: a.To, Text: head(a.Prompt)})
	reply, err := h.asks.put(ctx, h.scope, a)
	if err != nil {
		return messages.Answer{}, err
	}
	ans, err := settle(reply)
	ev := messages.Event{Kind: messages.AskAnswered, Step: a.Step, Name: a.To, Text: head(ans.Text)}
	if err != nil {
		ev.Error, ev.Class = reply.Error, reply.Error.Class
	}
	h.scope.emit(ev)
	return ans, err
}

func settle(r messages.Reply) (messages.Answer, error) {
	if r.Error != nil {
		return messages.Answer{}, r.Error
	}
	return *r.Answer, nil
}

// step records what the plan does at a step or, when the step is recorded,
// checks that it is the same, and gives the record back in want.
func step[T any](ctx context.Context, s *Stage, key string, want *T) error {
	log, writer := s.host.scope.log, s.host.address()
	switch was := log.at(writer, key).(type) {
	case nil:
		if err := s.host.scope.proceed(); err != nil {
			return err
		}
		return s.host.scope.append(ctx, writer, key, want)
	case *T:
		if asked, ok := any(want).(*messages.Asked); ok && !sameAsk(asked.Ask, any(was).(*messages.Asked).Ask) {
			return diverged(s, key, asked, any(was))
		}
		*want = *was
		return nil
	default:
		return diverged(s, key, want, was)
	}
}

func sameAsk(a, b messages.Ask) bool {
	return a.To == b.To && a.Prompt == b.Prompt && string(a.Format) == string(b.Format) &&
		(len(a.Discussion) == 0 && len(b.Discussion) == 0 || reflect.DeepEqual(a.Discussion, b.Discussion))
}

func diverged(s *Stage, key string, want, was any) error {
	return messages.Errorf(messages.Diverged, s.host.scope.run, "%w: step %s is %s in the journal, and %s in the plan",
		ErrDiverged, key, describe(was), describe(want))
}

func describe(rec any) string {
	if a, ok := rec.(*messages.Asked); ok {
		return fmt.Sprintf("an ask to %s (%q)", a.Ask.To, head(a.Ask.Prompt))
	}
	return messages.KindOf(rec)
}

// Say adds to the run's record something that was said and is not an answer, so
// that whoever listens in hears it.
func (s *Stage) Say(ctx context.Context, from, text string) error {
	rec := &messages.Spoken{Said: messages.Said{From: from, Text: text}}
	if err := step(ctx, s, s.next(), rec); err != nil {
		return err
	}
	s.host.scope.emit(messages.Event{Kind: messages.SaidEvent, Name: from, Text: head(text)})
	return nil
}

// Wait waits for d, counted from when the step was first reached: a run that is
// resumed later waits for what is left.
func (s *Stage) Wait(ctx context.Context, d time.Duration) error {
	clock := s.host.scope.rt.sys.Clock()
	rec := &messages.Timer{Until: clock.Now().Add(d)}
	if err := step(ctx, s, s.next(), rec); err != nil {
		return err
	}
	return s.host.scope.rt.sleep(ctx, rec.Until.Sub(clock.Now()))
}

// Now is the time when the step was first reached.
func (s *Stage) Now(ctx context.Context) (time.Time, error) {
	return Once(ctx, s, "now", func(context.Context) (time.Time, error) {
		return s.host.scope.rt.sys.Clock().Now().UTC(), nil
	})
}

// Once computes a value that the plan may not compute twice: a clock, a die, a
// lookup. It is called again only if a crash came before its value was recorded.
// T must survive JSON. An error is not recorded.
func Once[T any](ctx context.Context, s *Stage, name string, compute func(ctx context.Context) (T, error)) (T, error) {
	var v T
	key := s.next()
	log, writer := s.host.scope.log, s.host.address()
	rec := log.at(writer, key)
	if rec == nil {
		if err := s.host.scope.proceed(); err != nil {
			return v, err
		}
		var err error
		if v, err = compute(ctx); err != nil {
			return v, err
		}
		b, err := json.Marshal(v)
		if err != nil {
			return v, messages.Errorf(messages.Invalid, s.host.scope.run, "once %q: %w", name, err)
		}
		return v, s.host.scope.append(ctx, writer, key, &messages.Decided{Name: name, Value: b})
	}
	d, ok := rec.(*messages.Decided)
	if !ok || d.Name != name {
		return v, diverged(s, key, &messages.Decided{Name: name}, rec)
	}
	if err := json.Unmarshal(d.Value, &v); err != nil {
		return v, messages.Errorf(messages.Diverged, s.host.scope.run, "%w: step %s holds %s, which is no %T", ErrDiverged, key, d.Value, v)
	}
	return v, nil
}

// Parallel runs branches at the same time, each on a stage of its own, and
// waits for all of them. The first error ends the others' context and is
// returned.
func (s *Stage) Parallel(ctx context.Context, branches ...func(ctx context.Context, s *Stage) error) error {
	key := s.next()
	g, ctx := errgroup.WithContext(ctx)
	for i, branch := range branches {
		sub := &Stage{host: s.host, prompt: s.prompt, format: s.format, said: s.said, prefix: key + "." + strconv.Itoa(i+1) + "."}
		g.Go(func() (err error) {
			defer recovered(&err, s.host.scope.run, "a branch of the plan")
			return branch(ctx, sub)
		})
	}
	return g.Wait()
}
