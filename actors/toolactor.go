package actors

import (
	"context"
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

type underWay struct {
	asker supervisor.Asker
	late  func() // cancels the overrun
}

type (
	toolDone struct {
		call  *toolCall
		end   toolEnd
		crash *messages.Error
	}
	overrun struct{ call *toolCall }
)

func (a *toolActor) Receive(c *supervisor.Context, msg any) error {
	switch m := msg.(type) {
	case *toolCall:
		if !m.take() { // it waited for a restart, and its turn has ended since
			c.Fail(messages.Errorf(messages.Stopping, c.Path(), "the call was withdrawn"))
			return nil
		}
		timeout := timeoutOf(a.tool)
		a.calls[m] = &underWay{c.Asker(), c.After(timeout+toolGrace, overrun{m})}
		c.Go("a call", func(ctx context.Context) any {
			ctx, cancel := context.WithTimeout(tool.WithKey(ctx, m.key), timeout)
			defer cancel()
			if err := m.confirm(ctx); err != nil {
				return &toolDone{call: m, end: toolEnd{unmade: err}}
			}
			return a.do(ctx, m)
		})
	case *toolDone:
		if u := a.calls[m.call]; u != nil {
			u.late()
			delete(a.calls, m.call)
			u.asker.Answer(&m.end)
			if m.crash != nil {
				return m.crash
			}
		}
	case overrun:
		if u := a.calls[m.call]; u != nil {
			err := messages.Errorf(messages.Crashed, c.Path(), "did not end within %s after its timeout of %s", toolGrace, timeoutOf(a.tool))
			u.asker.Answer(&toolEnd{err: err})
			delete(a.calls, m.call)
			return err
		}
	}
	return nil
}

// do makes the call; a panic is told apart from an error.
func (a *toolActor) do(ctx context.Context, m *toolCall) *toolDone {
	done := &toolDone{call: m}
	var crash, err error
	func() {
		defer recovered(&crash, a.tool.Name, "the tool")
		done.end.out, err = a.tool.Call(ctx, m.tool.Arguments)
	}()
	switch {
	case crash != nil:
		done.crash = messages.AsError(crash, messages.Crashed, a.tool.Name)
		done.end = toolEnd{err: done.crash}
	case err != nil && ctx.Err() == context.DeadlineExceeded:
		done.end.err = messages.Errorf(messages.Tool, a.tool.Name, "took longer than its timeout of %s: %w", timeoutOf(a.tool), err)
	case err != nil:
		done.end.err = messages.AsError(err, messages.Tool, a.tool.Name)
	}
	return done
}

func (a *toolActor) Report() messages.Status {
	s := messages.Status{State: messages.Idle}
	if len(a.calls) > 0 {
		s = messages.Status{State: messages.Running, Step: "calling"}
	}
	return s
}
