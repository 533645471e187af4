package actors

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
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
	res := &messages.Result{N: n, Call: i, By: "tool"}
	tl, known := t.tool(call.Name)
	var refused error
	if !known {
		refused = messages.Errorf(messages.Tool, "", "there is no tool %q: there are %s", call.Name, t.toolNames())
	} else if err := tl.Validate(call.Arguments); err != nil {
		refused = err
	}
	if refused != nil {
		res.Error = messages.AsError(refused, messages.Tool, call.Name)
		return t.record(ctx, call, res)
	}
	intent := find(log, t.path, step, func(in *messages.Intent) bool { return in.N == n && in.Call == i })
	if intent != nil && intent.Effect == messages.Unsafe {
		rec, err := t.afterCrash(ctx, tl, intent)
		if rec != nil || err != nil {
			return rec, err
		}
	}
	if intent == nil {
		intent = &messages.Intent{N: n, Call: i, Tool: call, Effect: tl.Effect, Key: fmt.Sprintf("%s/%s/%s/%d/%d", t.scope.run, t.path, step, n, i)}
		if err := t.scope.append(ctx, t.path, step, intent); err != nil {
			return nil, err
		}
	}
	t.say(messages.Running, fmt.Sprintf("step %s: tool %s", step, call.Name), time.Time{})
	t.emit(messages.Event{Kind: messages.ToolCalled, Name: call.Name, Text: head(string(call.Arguments))})
	out, err := t.perform(ctx, tl, intent)
	if err != nil {
		if ctx.Err() != nil { // cut off: whether it took effect is open
			return nil, ended(ctx, t.path)
		}
		res.Error = messages.AsError(err, messages.Tool, call.Name)
	}
	res.Output = out
	return t.record(ctx, call, res)
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

// record journals a result. It does so for a turn that is over too: what has
// happened has happened.
func (t *turn) record(ctx context.Context, call messages.ToolCall, res *messages.Result) (*messages.Result, error) {
	keep, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepReply)
	defer cancel()
	if err := t.scope.append(keep, t.path, t.ask.Step, res); err != nil {
		return nil, err
	}
	ev := messages.Event{Kind: messages.ToolReturned, Name: call.Name, Text: head(res.Output)}
	if res.Error != nil {
		ev.Error, ev.Class = res.Error, res.Error.Class
	}
	t.emit(ev)
	return res, nil
}

// perform has the tool's actor make the call.
func (t *turn) perform(ctx context.Context, tl tool.Tool, in *messages.Intent) (string, error) {
	// The tool bounds the call itself; the rest is for an actor that must first
	// get over its backoff.
	bound, cancel := context.WithTimeout(ctx, timeoutOf(tl)+time.Minute)
	defer cancel()
	ref := t.scope.rt.sys.At(t.tools + "/" + toolActorName(t.agent.Name, tl.Name))
	return supervisor.Ask[string](bound, ref, &toolCall{args: in.Tool.Arguments, key: in.Key})
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
	for {
		select {
		case w := <-t.words:
			if w.Step != t.ask.Step || w.N != in.N || w.Call != in.Call {
				continue
			}
			if w.Retry {
				return nil, nil
			}
			res := &messages.Result{N: in.N, Call: in.Call, Output: w.Output, By: "person"}
			if w.Error != "" {
				res.Error = messages.Errorf(messages.Tool, in.Tool.Name, "%s", w.Error)
			}
			return t.record(ctx, in.Tool, res)
		case <-ctx.Done():
			return nil, ended(ctx, t.path)
		}
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
	select {
	case t.words <- r:
	default:
	}
}
