package actors

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
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
//
// A step that was interrupted (the node stops, another node owns the run, the
// plan has diverged) fails with class stopping, fenced or diverged. Whatever the
// plan makes of that does not count: the run is left as it was.
type Stage struct {
	host   *host
	walk   *walk
	prompt string
	format json.RawMessage
	said   []messages.Said
	prefix string

	mu sync.Mutex
	n  int
}

// Prompt is what the team was asked.
func (s *Stage) Prompt() string { return s.prompt }

// Discussion is what was said before the team was asked, oldest first; for a
// run's own team, what was said in its session.
func (s *Stage) Discussion() []messages.Said { return slices.Clip(s.said) }

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
// failure, and with class invalid when there is no such member. A ctx that the
// plan itself ends gives the step up in this walk alone: to bound a turn, use
// [Agent.Timeout], which is journalled.
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
	if _, err := step(ctx, s, a.Step, &messages.Asked{Ask: a}); err != nil {
		return messages.Answer{}, err
	}
	if rec := h.answered(a); rec != nil {
		h.scope.emit(messages.Event{Kind: messages.StepFromRecord, Step: a.Step, Name: a.To, Text: "answer"})
		return s.settle(rec.Reply)
	}
	if err := h.scope.proceed(); err != nil {
		return messages.Answer{}, s.walk.note(err)
	}
	h.scope.emit(messages.Event{Kind: messages.AskSent, Step: a.Step, Name: a.To, Text: head(a.Prompt)})
	reply, err := h.put(ctx, a)
	if ctx.Err() != nil && err != nil {
		return messages.Answer{}, s.walk.ended(ctx, h.scope.run)
	}
	if err != nil {
		return messages.Answer{}, s.walk.note(err)
	}
	ans, err := s.settle(reply.Reply)
	ev := messages.Event{Kind: messages.AskAnswered, Step: a.Step, Name: a.To, Text: head(ans.Text)}
	if err != nil {
		ev.Error = messages.AsError(err, messages.Crashed, a.To)
		ev.Class = ev.Error.Class
	}
	if err != nil && !interrupted(err) && reply.ours {
		// The member could not say so itself: it crashed too often, or is no more.
		writer := h.writerFor(a.To)
		if find[messages.Answered](h.scope.log, writer, a.Step, nil) == nil {
			if err := s.append(writer, a.Step, &messages.Answered{Reply: reply.Reply}); err != nil {
				return messages.Answer{}, err
			}
		}
	}
	h.scope.emit(ev)
	return ans, err
}

// settle is what a reply is to the plan.
func (s *Stage) settle(r messages.Reply) (messages.Answer, error) {
	switch {
	case r.Error != nil && r.Error.Class == messages.Diverged:
		return messages.Answer{}, s.walk.note(interruption{divergence{r.Error}})
	case r.Error != nil && interrupts(r.Error.Class):
		return messages.Answer{}, s.walk.note(interruption{r.Error})
	case r.Error != nil:
		return messages.Answer{}, r.Error
	case r.Answer == nil:
		return messages.Answer{}, messages.Errorf(messages.Invalid, r.From, "its reply to step %s holds neither an answer nor an error", r.Step)
	}
	return *r.Answer, nil
}

// append writes a record within the walk: a context that the plan ends itself
// never leaves open whether the record is there.
func (s *Stage) append(writer, key string, rec messages.Body) error {
	err := s.host.scope.append(s.walk.ctx, writer, key, rec)
	if err != nil && s.walk.ctx.Err() != nil {
		err = ended(s.walk.ctx, s.host.scope.run)
	}
	return s.walk.note(err)
}

// step records what the plan does at a step or, when the step is recorded,
// checks that it is the same, and gives the record back in want. fresh says that
// it was not recorded before.
func step[T any](ctx context.Context, s *Stage, key string, want *T) (fresh bool, err error) {
	log, writer := s.host.scope.log, s.host.address()
	switch was := log.at(writer, key).(type) {
	case nil:
		if ctx.Err() != nil {
			return false, s.walk.ended(ctx, s.host.scope.run)
		}
		if err := s.host.scope.proceed(); err != nil {
			return false, s.walk.note(err)
		}
		return true, s.append(writer, key, want)
	case *T:
		if !same(want, was) {
			return false, diverged(s, key, want, was)
		}
		*want = *was
		return false, nil
	default:
		return false, diverged(s, key, want, was)
	}
}

// same reports whether what the plan does is what its journal says. It compares
// as the wire does: the journal's copy has no white space in a schema, and no
// text that is not UTF-8.
func same(want, was any) bool {
	switch was.(type) {
	case *messages.Asked, *messages.Spoken:
		return bytes.Equal(wire(want), wire(was))
	}
	return true
}

// wire is a record as it looks once it has been written and read.
func wire(rec any) []byte {
	read := reflect.New(reflect.TypeOf(rec).Elem()).Interface()
	b, err := json.Marshal(rec)
	if err == nil && json.Unmarshal(b, read) == nil {
		b, err = json.Marshal(read)
	}
	if err != nil { // it could not have been recorded
		return nil
	}
	return b
}

func diverged(s *Stage, key string, want, was any) error {
	return s.walk.note(interruption{messages.Errorf(messages.Diverged, s.host.scope.run, "%w: step %s is %s in the journal, and %s in the plan",
		ErrDiverged, key, describe(was), describe(want))})
}

func describe(rec any) string {
	switch r := rec.(type) {
	case *messages.Asked:
		return fmt.Sprintf("an ask to %s (%q)", r.Ask.To, head(r.Ask.Prompt))
	case *messages.Spoken:
		return fmt.Sprintf("said by %s (%q)", r.Said.From, head(r.Said.Text))
	case *messages.Decided:
		return fmt.Sprintf("decided (%q)", r.Name)
	case *messages.Timer:
		return "a wait"
	}
	return messages.KindOf(rec)
}

// Say adds to the run's record something that was said and is not an answer, so
// that whoever listens in hears it.
func (s *Stage) Say(ctx context.Context, from, text string) error {
	rec := &messages.Spoken{Said: messages.Said{From: from, Text: text}}
	key := s.next()
	fresh, err := step(ctx, s, key, rec)
	if err == nil && fresh {
		s.host.scope.emit(messages.Event{Kind: messages.SaidEvent, Step: key, Name: from, Text: head(text)})
	}
	return err
}

// Wait waits for d, counted from when the step was first reached: a run that is
// resumed later waits for what is left.
func (s *Stage) Wait(ctx context.Context, d time.Duration) error {
	rt := s.host.scope.rt
	rec := &messages.Timer{Until: rt.sys.Clock().Now().Add(d).UTC()}
	if _, err := step(ctx, s, s.next(), rec); err != nil {
		return err
	}
	err := s.host.scope.pause(ctx, rec.Until.Sub(rt.sys.Clock().Now()))
	if err != nil && ctx.Err() != nil {
		return s.walk.ended(ctx, s.host.scope.run)
	}
	return s.walk.note(err)
}

// Now is the time when the step was first reached.
func (s *Stage) Now(ctx context.Context) (time.Time, error) {
	return Once(ctx, s, "now", func(context.Context) (time.Time, error) {
		return s.host.scope.rt.sys.Clock().Now().UTC().Round(0), nil
	})
}

// Once computes a value that the plan may not compute twice: a clock, a die, a
// lookup. It is called again only if a crash came before its value was recorded.
// T must survive JSON: what the plan sees is what came back from there, in the
// first walk too. An error is not recorded.
func Once[T any](ctx context.Context, s *Stage, name string, compute func(ctx context.Context) (T, error)) (T, error) {
	var v T
	key := s.next()
	log, writer := s.host.scope.log, s.host.address()
	rec := log.at(writer, key)
	if rec == nil {
		if err := s.host.scope.proceed(); err != nil {
			return v, s.walk.note(err)
		}
		first, err := compute(ctx)
		if err != nil {
			return v, err
		}
		b, err := json.Marshal(first)
		if err != nil {
			return v, messages.Errorf(messages.Invalid, s.host.scope.run, "once %q: %w", name, err)
		}
		if err := json.Unmarshal(b, &v); err != nil {
			return v, messages.Errorf(messages.Invalid, s.host.scope.run, "once %q: a %T does not survive JSON: %w", name, v, err)
		}
		return v, s.append(writer, key, &messages.Decided{Name: name, Value: b})
	}
	d, ok := rec.(*messages.Decided)
	if !ok || d.Name != name {
		return v, diverged(s, key, &messages.Decided{Name: name}, rec)
	}
	if err := json.Unmarshal(d.Value, &v); err != nil {
		return v, s.walk.note(interruption{messages.Errorf(messages.Diverged, s.host.scope.run, "%w: step %s holds %s, which is no %T", ErrDiverged, key, d.Value, v)})
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
		sub := &Stage{
			host: s.host, walk: s.walk, prompt: s.prompt, format: s.format, said: s.said,
			prefix: key + "." + strconv.Itoa(i+1) + ".",
		}
		g.Go(func() (err error) {
			defer recovered(&err, s.host.scope.run, "a branch of the plan")
			return branch(ctx, sub)
		})
	}
	return g.Wait()
}
