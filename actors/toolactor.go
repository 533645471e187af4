package actors

import (
	"context"
	"encoding/json"
	"time"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

const (
	defaultToolTimeout = 30 * time.Second
	// toolGrace is how long a tool may take to notice that its time is up. One
	// that does not is restarted, and its goroutine left behind by name.
	toolGrace = time.Second
)

func timeoutOf(t tool.Tool) time.Duration {
	if t.Timeout > 0 {
		return t.Timeout
	}
	return defaultToolTimeout
}

func toolActorName(agent, tool string) string { return agent + "." + tool }

// toolSpec describes the actor of one agent's tool.
func toolSpec(agent string, t tool.Tool) supervisor.Spec {
	return supervisor.Spec{Name: toolActorName(agent, t.Name), Kind: "tool", New: func() (supervisor.Actor, error) {
		return &toolActor{tool: t, calls: map[*toolCall]*underWay{}}, nil
	}}
}

// toolActor makes the calls of one tool, each in a goroutine of its own. A call
// that panics, or does not end, fails the actor; whoever asked has had its error
// by then.
type toolActor struct {
	tool  tool.Tool
	calls map[*toolCall]*underWay
}

// toolCall asks for one call. The answer is a string.
type toolCall struct {
	args json.RawMessage
	key  string
}

type underWay struct {
	asker supervisor.Asker
	late  func() // cancels the overrun
}

type (
	toolDone struct {
		call  *toolCall
		out   string
		err   error
		crash *messages.Error
	}
	overrun struct{ call *toolCall }
)

func (a *toolActor) Receive(c *supervisor.Context, msg any) error {
	switch m := msg.(type) {
	case *toolCall:
		timeout := timeoutOf(a.tool)
		a.calls[m] = &underWay{c.Asker(), c.After(timeout+toolGrace, overrun{m})}
		c.Go("a call", func(ctx context.Context) any {
			ctx, cancel := context.WithTimeout(tool.WithKey(ctx, m.key), timeout)
			defer cancel()
			return a.do(ctx, m)
		})
	case *toolDone:
		u := a.calls[m.call]
		if u == nil {
			return nil
		}
		u.late()
		delete(a.calls, m.call)
		switch {
		case m.crash != nil:
			u.asker.Fail(m.crash)
			return m.crash
		case m.err != nil:
			u.asker.Fail(m.err)
		default:
			u.asker.Answer(m.out)
		}
	case overrun:
		if u := a.calls[m.call]; u != nil {
			err := messages.Errorf(messages.Crashed, c.Path(), "did not end within %s after its timeout of %s", toolGrace, timeoutOf(a.tool))
			u.asker.Fail(err)
			delete(a.calls, m.call)
			return err
		}
	}
	return nil
}

// do makes the call; a panic is told apart from an error.
func (a *toolActor) do(ctx context.Context, m *toolCall) *toolDone {
	done := &toolDone{call: m}
	var crash error
	func() {
		defer recovered(&crash, a.tool.Name, "the tool")
		done.out, done.err = a.tool.Call(ctx, m.args)
	}()
	switch {
	case crash != nil:
		done.crash = messages.AsError(crash, messages.Crashed, a.tool.Name)
	case done.err != nil && ctx.Err() == context.DeadlineExceeded:
		done.err = messages.Errorf(messages.Tool, a.tool.Name, "took longer than its timeout of %s: %w", timeoutOf(a.tool), done.err)
	case done.err != nil:
		done.err = messages.AsError(done.err, messages.Tool, a.tool.Name)
	}
	return done
}

// Stop answers whoever still waits.
func (a *toolActor) Stop(c *supervisor.Context) {
	for _, u := range a.calls {
		u.late()
		u.asker.Fail(messages.Errorf(messages.Crashed, c.Path(), "the tool went down while it was called"))
	}
}

func (a *toolActor) Report() messages.Status {
	s := messages.Status{State: messages.Idle}
	if len(a.calls) > 0 {
		s = messages.Status{State: messages.Running, Step: "calling"}
	}
	return s
}
