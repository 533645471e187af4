package actors

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// scope is what the actors of one run share.
type scope struct {
	rt       *Runtime
	run      string
	owner    string // of the run: see messages.Owner
	task     messages.Task
	log      *runLog
	top      supervisor.Ref // the run's actor
	restarts atomic.Int64
	working  sync.Map // member's path → the step that it works on
	flights  flights
	drained  <-chan struct{} // closed once no new step may begin here
	// moves says that a turn which was cut off goes on elsewhere, so that whoever
	// asked is told nothing. nil: none does.
	moves func() bool
}

// append writes a record; a lost claim ends the run at once.
func (s *scope) append(ctx context.Context, writer, step string, body messages.Body) error {
	err := s.log.append(ctx, writer, step, body)
	if messages.ClassOf(err) == messages.Fenced {
		s.top.Tell(&abort{err})
		return interruption{err}
	}
	return err
}

// proceed returns an interruption once no new step may begin.
func (s *scope) proceed() error {
	if s.flights.over.Load() {
		return interruption{messages.Errorf(messages.Stopping, s.run, "the run is over")}
	}
	if !s.flights.lease.holds() {
		return interruption{s.flights.lease.ended(s.run)}
	}
	select {
	case <-s.drained:
		return s.rt.stopping()
	default:
		return nil
	}
}

// pause waits for d by the system's clock. A drain interrupts it.
func (s *scope) pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := s.rt.sys.Clock().NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return nil
	case <-s.drained:
		return s.rt.stopping()
	case <-ctx.Done():
		return ended(ctx, "")
	}
}

// emit fills in the run and the time.
func (s *scope) emit(ev messages.Event) {
	if events := s.rt.sys.Events(); events.Wanted() {
		ev.Run, ev.Time = s.run, s.rt.sys.Clock().Now()
		events.Emit(ev)
	}
}

// ours reports whether a message from the bus is this owner's. A node that was
// taken for dead may serve the run's addresses still, and speak: it and its heir
// do not hear each other. A client's word comes from no owner.
func (s *scope) ours(e messages.Envelope) bool { return e.Writer == "" || e.Writer == s.owner }

// serve has the run's messages to an address delivered to an actor.
func (s *scope) serve(address string, to supervisor.Ref) (stop func(), err error) {
	return s.rt.bus.Serve(s.run, address, func(e messages.Envelope) {
		if s.ours(e) {
			to.Tell(e)
		}
	})
}

// send delivers a message of the run, again and again until somebody takes it:
// a member that is not served now is about to be. It says who owns the run.
func (s *scope) send(ctx context.Context, member string, body messages.Body) error {
	e := messages.Envelope{Run: s.run, Writer: s.owner, Time: s.rt.sys.Clock().Now(), Body: body}
	backoff := supervisor.Backoff{Initial: time.Millisecond, Max: time.Second}
	for n := 1; ; n++ {
		err := s.rt.bus.Send(ctx, s.run, member, e)
		switch c := messages.ClassOf(err); {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ended(ctx, member)
		case c != messages.Unavailable && c != messages.Timeout:
			return err
		}
		if err := s.pause(ctx, backoff.Wait(n, nil)); err != nil {
			return err
		}
	}
}

// answer records a reply and sends it to whoever asked. cut says that the work
// was interrupted: then it is sent, so that whoever asked can end too, and not
// recorded.
func (s *scope) answer(ctx context.Context, a messages.Ask, r messages.Reply, cut bool) error {
	if cut && s.moves != nil && s.moves() {
		return nil
	}
	if !cut && find[messages.Answered](s.log, r.From, a.Step, nil) == nil {
		if err := s.append(ctx, r.From, a.Step, &messages.Answered{Reply: r}); err != nil {
			return err
		}
	}
	return s.send(ctx, a.From, &r)
}

// replyOf makes a reply of what a turn or a walk came to.
func replyOf(from, step string, ans messages.Answer, err error) messages.Reply {
	r := messages.Reply{Step: step, From: from}
	if err != nil {
		r.Error = failureOf(err, from)
	} else {
		r.Answer = &ans
	}
	return r
}

// failureOf is an error as it is recorded: in the words of the outermost that
// wraps it, and with everything that the classed one within knows.
func failureOf(err error, source string) *messages.Error {
	err = plainOf(err, source)
	e := messages.AsError(err, messages.Crashed, source)
	if text := err.Error(); text != e.Error() {
		wrapped := *e
		wrapped.Source, wrapped.Message = source, text
		e = &wrapped
	}
	if e.Class == "" {
		unclassed := *e
		unclassed.Class = messages.Crashed
		e = &unclassed
	}
	return e
}

// writersOf lists the journal's writers of a member that sits at path: its own
// and, for a team, its plan's and its members'. The writer of one that lives on
// another node is its home's; away says that there is such a one.
func (rt *Runtime) writersOf(m Member, path string) (writers []string, away bool) {
	switch m := m.(type) {
	case Agent:
		if rt.away(m) {
			return nil, true
		}
	case Team:
		writers = append(writers, join(path, messages.PlanWriter))
		for _, sub := range m.Members {
			sub = value(sub)
			ws, some := rt.writersOf(sub, join(path, sub.MemberName()))
			writers, away = append(writers, ws...), away || some
		}
	}
	return append(writers, path), away
}

// join makes a path within a run.
func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "/")
}

// head is the beginning of a text, on one line, for events.
func head(text string) string {
	const most = 200
	if len(text) > 16*most { // what follows is not looked at
		text = strings.ToValidUTF8(text[:16*most], "")
	}
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}
