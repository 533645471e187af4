package actors

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

// callTools settles the tool calls of one model reply, in order; side by side
// where calling every one of them twice would do no harm.
func (t *turn) callTools(ctx context.Context, n int, calls []messages.ToolCall) ([]messages.Message, error) {
	out := make([]messages.Message, len(calls))
	g, gctx := errgroup.WithContext(ctx)
	if slices.ContainsFunc(calls, t.unsafe) {
		g.SetLimit(1)
	}
	for i, call := range calls {
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			rec, err := t.settle(gctx, n, i, call)
			if err != nil {
				return err
			}
			out[i] = observation(call, rec)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

func (t *turn) unsafe(call messages.ToolCall) bool {
	tl, ok := t.tool(call.Name)
	return ok && tl.Effect == messages.Unsafe
}

func (t *turn) tool(name string) (tool.Tool, bool) {
	i := slices.IndexFunc(t.agent.Tools, func(tl tool.Tool) bool { return tl.Name == name })
	if i < 0 {
		return tool.Tool{}, false
	}
	return t.agent.Tools[i], true
}

// observation is what the model is told of a call.
func observation(call messages.ToolCall, r *messages.Result) messages.Message {
	m := messages.Message{Role: messages.ToolRole, ToolCallID: call.ID, ToolName: call.Name, Content: r.Output}
	if r.Error != nil {
		m.Content = "error: " + r.Error.Error()
	}
	return m
}

// settle brings one tool call to a result. A call with an intent and no result
// was cut off by a crash: what happens then is decided by the tool's effect.
func (t *turn) settle(ctx context.Context, n, i int, call messages.ToolCall) (*messages.Result, error) {
	log, step := t.scope.log, t.ask.Step
	if rec := find(log, t.path, step, func(r *messages.Result) bool { return r.N == n && r.Call == i }); rec != nil {
		t.emit(messages.Event{Kind: messages.StepFromRecord, Name: call.Name, Text: "tool result"})
		return rec, nil
	}
	if err := t.scope.proceed(); err != nil {
		return nil, err
	}
	tl, known := t.tool(call.Name)
	intent := find(log, t.path, step, func(in *messages.Intent) bool { return in.N == n && in.Call == i })
	var f *flight
	if intent != nil {
		if f = t.inTheAir(ctx, intent); f == nil && intent.Effect == messages.Unsafe {
			rec, err := t.afterCrash(ctx, tl, intent)
			if rec != nil || err != nil {
				return rec, err
			}
		}
	}
	if f == nil {
		if refused := t.refuse(tl, known, call); refused != nil {
			return t.record(ctx, call, &messages.Result{N: n, Call: i, Error: refused, By: "tool"})
		}
	}
	if intent == nil {
		intent = &messages.Intent{N: n, Call: i, Tool: call, Effect: tl.Effect, Key: fmt.Sprintf("%s/%s/%s/%d/%d", t.scope.run, t.path, step, n, i)}
		if err := t.scope.append(ctx, t.path, step, intent); err != nil {
			return nil, err
		}
	}
	t.say(messages.Running, fmt.Sprintf("step %s: tool %s", step, call.Name), time.Time{})
	if f == nil {
		if err := t.confirm(ctx, intent); err != nil {
			return nil, err
		}
		t.emit(messages.Event{Kind: messages.ToolCalled, Name: call.Name, Text: head(string(call.Arguments))})
		f = t.perform(tl, intent)
	}
	res, err := t.land(ctx, f, intent)
	if err != nil {
		return nil, err
	}
	rec, err := t.record(ctx, call, res)
	if err == nil {
		t.scope.flights.land(intent.Key)
	}
	return rec, err
}

// refuse is what is wrong with a call before it is made.
func (t *turn) refuse(tl tool.Tool, known bool, call messages.ToolCall) *messages.Error {
	if !known {
		return messages.Errorf(messages.Tool, call.Name, "there is no tool %q: there are %s", call.Name, t.toolNames())
	}
	return messages.AsError(tl.Validate(call.Arguments), messages.Invalid, call.Name)
}

func (t *turn) toolNames() string {
	if len(t.agent.Tools) == 0 {
		return "none"
	}
	var names []string
	for _, tl := range t.agent.Tools {
		names = append(names, tl.Name)
	}
	return fmt.Sprintf("%q", names)
}

// record journals a result.
func (t *turn) record(ctx context.Context, call messages.ToolCall, res *messages.Result) (*messages.Result, error) {
	if err := t.keep(ctx, res); err != nil {
		return nil, err
	}
	ev := messages.Event{Kind: messages.ToolReturned, Name: call.Name, Text: head(res.Output)}
	if res.Error != nil {
		ev.Error, ev.Class = res.Error, res.Error.Class
	}
	t.emit(ev)
	return res, nil
}

// confirm makes sure that this node may make an unsafe call. It waits for a
// journal that is away, as appends do.
func (t *turn) confirm(ctx context.Context, in *messages.Intent) error {
	if in.Effect != messages.Unsafe {
		return nil
	}
	if err := t.scope.flights.lease.confirm(ctx); err != nil {
		return t.unmade(ctx, err)
	}
	return nil
}

// unmade is a call that was not made, for its owner may be another by now. The
// run is left to whoever goes on with it.
func (t *turn) unmade(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended(ctx, t.path)
	}
	return interruption{messages.Errorf(messages.Fenced, t.path, "a tool was not called: %w", err)}
}

// perform has the tool's actor make the call.
func (t *turn) perform(tl tool.Tool, in *messages.Intent) *flight {
	// The tool bounds the call itself; the rest is for an actor that must first
	// get over its backoff.
	ref := t.scope.rt.sys.At(t.tools + "/" + toolActorName(t.agent.Name, tl.Name))
	return t.scope.flights.start(ref, in, timeoutOf(tl)+toolGrace+time.Minute)
}

// land waits for a call and says what it came to. When the turn ends first, a
// call that has begun goes on, and its outcome is kept for the next turn.
func (t *turn) land(ctx context.Context, f *flight, in *messages.Intent) (*messages.Result, error) {
	res := &messages.Result{N: in.N, Call: in.Call, By: "tool"}
	select {
	case <-f.done:
	case <-ctx.Done():
		if f.call.withdraw() {
			t.scope.flights.land(in.Key)
		}
		return nil, ended(ctx, t.path)
	}
	switch {
	case f.err == nil && f.end.unmade != nil:
		t.scope.flights.land(in.Key)
		return nil, t.unmade(ctx, f.end.unmade)
	case f.err == nil && f.end.err != nil:
		res.Error = f.end.err
	case f.err == nil:
		res.Output = f.end.out
	case ctx.Err() != nil:
		return nil, ended(ctx, t.path)
	case t.scope.flights.closed() && f.call.withdraw():
		return nil, t.scope.proceed()
	case f.call.withdraw():
		res.Error = messages.Errorf(messages.Unavailable, in.Tool.Name, "the tool was not called: %w", f.err)
	case messages.ClassOf(f.err) == messages.Stopping: // whether it took effect is open
		return nil, interruption{f.err}
	default:
		res.Error = messages.Errorf(messages.Crashed, in.Tool.Name, "the tool went down while it was called, and whether the call took effect is not known: %w", f.err)
	}
	return res, nil
}

// inTheAir is a call of an earlier turn that this process has not lost sight of.
func (t *turn) inTheAir(ctx context.Context, in *messages.Intent) *flight {
	f := t.scope.flights.find(in.Key)
	if f == nil {
		return nil
	}
	t.say(messages.Running, fmt.Sprintf("step %s: tool %s", t.ask.Step, in.Tool.Name), time.Time{})
	select {
	case <-f.done:
		if f.err != nil { // it went down with its actor
			t.scope.flights.land(in.Key)
			return nil
		}
	case <-ctx.Done():
	}
	return f
}

// afterCrash settles an unsafe call that has an intent and no result: by the
// tool's hook, or else by a person. nil and no error: it did not happen, and the
// tool may be called.
func (t *turn) afterCrash(ctx context.Context, tl tool.Tool, in *messages.Intent) (*messages.Result, error) {
	why := "its tool has no Verify hook"
	if tl.Verify != nil {
		out, done, err := t.verify(ctx, tl, in)
		switch {
		case ctx.Err() != nil:
			return nil, ended(ctx, t.path)
		case err == nil && done:
			return t.record(ctx, in.Tool, &messages.Result{N: in.N, Call: in.Call, Output: out, By: "verify"})
		case err == nil:
			return nil, nil
		}
		why = "its Verify hook failed: " + err.Error()
	}
	e := messages.Errorf(messages.Waiting, t.path, "a crash cut off the call of %s (%s), and %s: a person must say what came of it",
		in.Tool.Name, head(string(in.Tool.Arguments)), why)
	t.say(messages.Parked, fmt.Sprintf("step %s: waits for a person to settle %s", t.ask.Step, in.Tool.Name), time.Time{})
	t.emit(messages.Event{Kind: messages.RunWaits, Name: in.Tool.Name, Class: e.Class, Error: e, Text: fmt.Sprintf("%s %s %d %d", t.path, t.ask.Step, in.N, in.Call)})
	select {
	case w := <-t.words.on(in.N, in.Call):
		if w.Retry {
			return nil, nil
		}
		res := &messages.Result{N: in.N, Call: in.Call, Output: w.Output, By: "person"}
		if w.Error != "" {
			res.Error = messages.Errorf(messages.Tool, in.Tool.Name, "%s", w.Error)
		}
		return t.record(ctx, in.Tool, res)
	case <-t.scope.drained:
		return nil, t.scope.proceed()
	case <-ctx.Done():
		return nil, ended(ctx, t.path)
	}
}

// verify runs the tool's hook; its panic is its error.
func (t *turn) verify(ctx context.Context, tl tool.Tool, in *messages.Intent) (out string, done bool, err error) {
	defer recovered(&err, tl.Name, "the Verify hook")
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(tl))
	defer cancel()
	return tl.Verify(tool.WithKey(ctx, in.Key), in.Tool.Arguments, in.Key)
}

// resolve hands over a person's word.
func (t *turn) resolve(r messages.Resolve) {
	if r.Step != t.ask.Step {
		return
	}
	select {
	case t.words.on(r.N, r.Call) <- r:
	default: // a second word on the same call
	}
}

// words are what people have said of a turn's tool calls.
type words struct {
	mu sync.Mutex
	by map[[2]int]chan messages.Resolve
}

// on is where a person's word on one call comes.
func (w *words) on(n, call int) chan messages.Resolve {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[[2]int]chan messages.Resolve{}
	}
	at := [2]int{n, call}
	if w.by[at] == nil {
		w.by[at] = make(chan messages.Resolve, 1)
	}
	return w.by[at]
}
