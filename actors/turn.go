package actors

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// Defaults of an [Agent].
const (
	defaultMaxSteps = 8
	defaultMaxPark  = 5 * time.Minute
	maxRepairs      = 2
	// keepReply is how long a reply that was paid for may take to reach the
	// journal once its turn is over.
	keepReply = 5 * time.Second
)

// turn is an agent's work on one ask: model, tools, model, … until an answer.
// Everything it does is recorded first, so that a turn which is run again goes
// on where the last one was.
type turn struct {
	*turning
	scope   *scope
	path    string
	agent   *Agent
	calls   *provider.Settings // of its model calls
	tools   string
	status  atomic.Pointer[messages.Status] // for the live tree
	settled atomic.Bool                     // somebody answers, or has answered
	late    func()                          // calls tooLong off
	words   words
	replies chan messages.Reply // 1; of a program
	parks   int
	parked  time.Duration
	usage   messages.Usage
}

func newTurn(a *agentActor, now *turning) *turn {
	return &turn{turning: now, scope: a.scope, path: a.path, agent: a.agent, calls: a.calls, tools: a.tools, late: func() {}, replies: make(chan messages.Reply, 1)}
}

// run works the ask out, records the reply and sends it.
func (t *turn) run(ctx context.Context) error {
	if rec := find[messages.Answered](t.scope.log, t.path, t.ask.Step, nil); rec != nil {
		return t.scope.answer(ctx, t.ask, rec.Reply, false)
	}
	bound := ctx
	if t.agent.Timeout > 0 {
		var cancel context.CancelFunc
		bound, cancel = context.WithTimeoutCause(ctx, t.agent.Timeout, t.overtime())
		defer cancel()
	}
	ans, err := t.work(bound)
	if err != nil && bound.Err() != nil {
		err = ended(bound, t.path)
	}
	if !t.settled.CompareAndSwap(false, true) {
		return nil // it was answered for
	}
	return t.scope.answer(ctx, t.ask, replyOf(t.path, t.ask.Step, ans, err), interrupted(err))
}

func (t *turn) overtime() *messages.Error {
	return messages.Errorf(messages.Budget, t.path, "the turn took longer than its timeout of %s", t.agent.Timeout)
}

// giveUp answers for a turn whose time is up and that does not end.
func (t *turn) giveUp(ctx context.Context) error {
	return t.scope.answer(ctx, t.ask, replyOf(t.path, t.ask.Step, messages.Answer{}, t.overtime()), false)
}

func (t *turn) work(ctx context.Context) (messages.Answer, error) {
	steps := t.agent.MaxSteps
	if steps == 0 {
		steps = defaultMaxSteps
	}
	if len(t.ask.Format) > 0 {
		if err := provider.CheckFormat(t.ask.Format); err != nil {
			return messages.Answer{}, err
		}
	}
	if t.agent.External != "" {
		return t.relay(ctx)
	}
	talk := t.opening()
	repairs := 0
	for n := range steps {
		rec, err := t.model(ctx, n, &talk)
		if err != nil {
			return messages.Answer{}, err
		}
		t.usage = t.usage.Add(rec.Usage)
		talk = append(talk, rec.Message)
		if calls := rec.Message.ToolCalls; len(calls) > 0 {
			results, err := t.callTools(ctx, n, calls)
			if err != nil {
				return messages.Answer{}, err
			}
			talk = append(talk, results...)
			continue
		}
		text := strings.TrimSpace(rec.Message.Content)
		bad := t.judge(ctx, text)
		if bad == nil {
			return messages.Answer{Run: t.scope.run, By: t.path, Text: text, Usage: t.usage, Model: rec.Model, Stop: rec.Stop, Origin: rec.Origin}, nil
		}
		if repairs++; repairs > maxRepairs {
			return messages.Answer{}, messages.Errorf(messages.Malformed, t.path, "no usable answer after %d repairs: %w", maxRepairs, bad)
		}
		talk = append(talk, messages.Message{Role: messages.User, Content: fmt.Sprintf("That answer cannot be used: %v. Give the whole answer again, mended.", bad)})
	}
	return messages.Answer{}, messages.Errorf(messages.Budget, t.path, "ran out of steps: %d model calls, and no final answer", steps)
}

// opening is the conversation before the model's first word.
func (t *turn) opening() []messages.Message {
	var talk []messages.Message
	var system []string
	if t.agent.Role != "" {
		system = append(system, "You are "+strings.TrimSuffix(strings.TrimSpace(t.agent.Role), ".")+".")
	}
	if t.agent.Instructions != "" {
		system = append(system, t.agent.Instructions)
	}
	if len(system) > 0 {
		talk = append(talk, messages.Message{Role: messages.System, Content: strings.Join(system, "\n")})
	}
	return append(talk, messages.Message{Role: messages.User, Content: prompt(t.ask.Discussion, t.ask.Prompt)})
}

// prompt puts what was said before a question.
func prompt(said []messages.Said, question string) string {
	if len(said) == 0 {
		return question
	}
	var b strings.Builder
	b.WriteString("The discussion so far:\n\n")
	for _, s := range said {
		fmt.Fprintf(&b, "[%s] %s\n\n", s.From, s.Text)
	}
	b.WriteString(question)
	return b.String()
}

// judge says what is wrong with a final answer; nil if it can be used.
func (t *turn) judge(ctx context.Context, text string) error {
	if text == "" {
		return messages.Errorf(messages.Malformed, "", "it is empty")
	}
	if len(t.ask.Format) > 0 {
		if err := provider.Fits(t.ask.Format, text); err != nil {
			return err
		}
	}
	if t.agent.Validate != nil {
		return t.agent.Validate(ctx, text)
	}
	return nil
}

// model makes, or reads, the n-th model call of the turn.
func (t *turn) model(ctx context.Context, n int, talk *[]messages.Message) (*messages.Modeled, error) {
	if rec := find(t.scope.log, t.path, t.ask.Step, func(m *messages.Modeled) bool { return m.N == n }); rec != nil {
		t.emit(messages.Event{Kind: messages.StepFromRecord, Text: "model reply"})
		return rec, nil
	}
	trimmed := false
	for {
		if err := t.scope.proceed(); err != nil {
			return nil, err
		}
		reply, err := t.call(ctx, n, *talk)
		switch {
		case err == nil:
			rec := &messages.Modeled{N: n, Model: reply.Model, Message: reply.Message, Usage: reply.Usage, Stop: reply.Stop, Origin: reply.Origin}
			rec.Usage.Calls = 1
			if err := t.keep(ctx, rec); err != nil {
				return nil, err
			}
			usage := rec.Usage
			t.emit(messages.Event{Kind: messages.ModelReplied, Name: reply.Model, Text: head(reply.Message.Content), Attempt: reply.Attempts, Usage: &usage})
			return rec, nil
		case ctx.Err() != nil:
			return nil, ended(ctx, t.path)
		case messages.ClassOf(err) == messages.ContextLength && !trimmed:
			half := provider.HalfHistory(*talk)
			if half == nil {
				return nil, err
			}
			trimmed, *talk = true, half
			t.emit(messages.Event{Kind: messages.HistoryHalved, Name: t.agent.Model, Count: len(half), Class: messages.ContextLength})
		default:
			if err := t.park(ctx, err); err != nil {
				return nil, err
			}
		}
	}
}

// keep journals what was paid for, or has happened, of a turn that is over too.
func (t *turn) keep(ctx context.Context, rec messages.Body) error {
	ctx, cancel := lingering(ctx, keepReply)
	defer cancel()
	return t.scope.append(ctx, t.path, t.ask.Step, rec)
}

// call asks the provider, and lets listeners see the chunks.
func (t *turn) call(ctx context.Context, n int, talk []messages.Message) (*provider.Reply, error) {
	t.say(messages.Running, fmt.Sprintf("step %s: model call %d", t.ask.Step, n+1), time.Time{})
	req := &provider.Request{
		Messages: talk, Format: t.ask.Format, Options: t.agent.Options,
		Key:     fmt.Sprintf("%s/%s/%s/%d", t.scope.run, t.path, t.ask.Step, n),
		Session: t.scope.run, Kind: t.agent.Kind, Priority: t.agent.Priority,
	}
	for _, tl := range t.agent.Tools {
		req.Tools = append(req.Tools, tl.Spec())
	}
	var each func(provider.Chunk)
	if t.scope.rt.sys.Events().Wanted() {
		each = func(c provider.Chunk) {
			if c.Text != "" {
				t.emit(messages.Event{Kind: messages.ModelChunk, Name: t.agent.Model, Text: c.Text, Attempt: max(c.Attempt, 1)})
			}
		}
	}
	began := t.scope.rt.sys.Clock().Now()
	reply, err := provider.Collect(t.scope.rt.ModelWith(t.agent.Model, t.calls).Stream(ctx, req), each)
	if err == nil {
		reply.Usage.Duration = t.scope.rt.sys.Clock().Since(began)
	}
	return reply, err
}

// park waits for a provider that cannot answer now, within the agent's patience;
// an error that waiting does not mend is returned as it is.
func (t *turn) park(ctx context.Context, err error) error {
	c := messages.ClassOf(err)
	if c != messages.Unavailable && !c.Retryable() {
		return err
	}
	patience := t.agent.MaxPark
	if patience == 0 {
		patience = defaultMaxPark
	}
	clock := t.scope.rt.sys.Clock()
	e := messages.AsError(err, c, t.path)
	t.parks++
	wait := supervisor.Backoff{Initial: 250 * time.Millisecond, Max: 15 * time.Second}.Wait(t.parks, nil)
	if !e.Until.IsZero() {
		wait = max(e.Until.Sub(clock.Now()), 10*time.Millisecond)
	}
	if t.parked+wait > patience {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return err
	}
	t.parked += wait
	until := clock.Now().Add(wait)
	t.say(messages.Parked, fmt.Sprintf("step %s: waits for %s", t.ask.Step, t.agent.Model), until)
	t.emit(messages.Event{Kind: messages.TurnParked, Name: t.agent.Model, Class: c, Error: e, Wait: wait, Until: until})
	return t.scope.pause(ctx, wait)
}

// say is what the live tree shows.
func (t *turn) say(state messages.State, step string, until time.Time) {
	t.status.Store(&messages.Status{State: state, Step: step, Until: until})
}

func (t *turn) emit(ev messages.Event) {
	ev.Step = t.ask.Step
	if ev.Path == "" {
		ev.Path = t.path
	}
	t.scope.emit(ev)
}
