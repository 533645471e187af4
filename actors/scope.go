package actors

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// scope is what the actors of one run share.
type scope struct {
	rt       *Runtime
	run      string
	task     messages.Task
	log      *runLog
	top      supervisor.Ref // the run's actor
	restarts atomic.Int64
}

// append writes a record; a lost claim ends the run at once.
func (s *scope) append(ctx context.Context, writer, step string, body messages.Body) error {
	err := s.log.append(ctx, writer, step, body)
	if messages.ClassOf(err) == messages.Fenced {
		s.top.Tell(&abort{err})
	}
	return err
}

// proceed returns an error of class stopping once no new step may begin.
func (s *scope) proceed() error {
	if s.rt.draining.Load() {
		return messages.Errorf(messages.Stopping, s.run, "the node is stopping: the run can be resumed")
	}
	return nil
}

// emit fills in the run and the time.
func (s *scope) emit(ev messages.Event) {
	if events := s.rt.sys.Events(); events.Wanted() {
		ev.Run, ev.Time = s.run, s.rt.sys.Clock().Now()
		events.Emit(ev)
	}
}

// send delivers a message of the run, again and again until somebody takes it:
// a member that is not served now is about to be.
func (s *scope) send(ctx context.Context, member string, body messages.Body) error {
	e := messages.Envelope{Run: s.run, Time: s.rt.sys.Clock().Now(), Body: body}
	backoff := supervisor.Backoff{Initial: time.Millisecond, Max: time.Second}
	for n := 1; ; n++ {
		err := s.rt.bus.Send(ctx, s.run, member, e)
		if err == nil {
			return nil
		}
		if c := messages.ClassOf(err); c != messages.Unavailable && c != messages.Timeout || ctx.Err() != nil {
			return err
		}
		if err := s.rt.sleep(ctx, backoff.Wait(n, nil)); err != nil {
			return err
		}
	}
}

// writersOf lists the journal's writers of a member that sits at path: its own
// and, for a team, its plan's and its members'.
func writersOf(m Member, path string) []string {
	t, ok := m.(Team)
	if !ok {
		return []string{path}
	}
	ws := []string{path, join(path, messages.PlanWriter)}
	for _, m := range t.Members {
		ws = append(ws, writersOf(m, join(path, m.MemberName()))...)
	}
	return ws
}

// join makes a path within a run.
func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "/")
}

// head is the beginning of a text, on one line, for events.
func head(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	const most = 200
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}
