package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// wanted picks the events that are worth a line.
func wanted(ev messages.Event) bool {
	switch ev.Kind {
	case messages.ActorStarted, messages.ActorResumed, messages.ModelChunk, messages.ActorStopped:
		return false
	case messages.AskAnswered:
		return ev.Error != nil && ev.Class != messages.Stopping && ev.Class != messages.Fenced
	}
	return true
}

// progress tells what happens, a line for each event.
type progress struct {
	w     io.Writer // nil: nowhere
	where string    // the flags that find the run again
	names int       // the width of the column of names
	// restarts counts those of any actor.
	restarts int
}

// newProgress makes the column of names fit a team's.
func newProgress(w io.Writer, where string, team actors.Member) *progress {
	return &progress{w: w, where: where, names: min(nameWidth(team, 8), 32)}
}

func nameWidth(m actors.Member, most int) int {
	switch m := m.(type) {
	case actors.Agent:
		most = max(most, len(m.Name), len(m.Model))
		for _, t := range m.Tools {
			most = max(most, len(m.Name)+1+len(t.Name))
		}
	case actors.Team:
		for _, sub := range m.Members {
			width := nameWidth(sub, most)
			if t, ok := sub.(actors.Team); ok {
				width += len(t.Name) + 1
			}
			most = max(most, width)
		}
	}
	return most
}

// show writes until the channel is closed.
func (p *progress) show(events <-chan messages.Event) {
	for ev := range events {
		if ev.Kind == messages.ActorRestarted {
			p.restarts++
		}
		if p.w == nil {
			continue
		}
		if l := p.line(ev); l != "" {
			fmt.Fprintln(p.w, l)
		}
	}
}

// line tells one event in words; "" for one that needs none.
func (p *progress) line(ev messages.Event) string {
	row := func(mark, who, what string) string { return fmt.Sprintf("  %s %-*s  %s", mark, p.names, who, what) }
	who := actorName(ev.Path)
	switch ev.Kind {
	case messages.RunStarted:
		if ev.Count > 0 {
			return fmt.Sprintf("run %s of team %s goes on: %s from the journal", ev.Run, ev.Name, count(ev.Count, "step"))
		}
		return fmt.Sprintf("run %s of team %s: %s", ev.Run, ev.Name, ev.Text)
	case messages.RunSuspended:
		if ev.Class == messages.Fenced {
			return fmt.Sprintf("run %s: this process was taken for dead, and another one goes on with the run; waiting for its answer", ev.Run)
		}
	case messages.AskSent:
		return row("→", ev.Name, "is asked (step "+ev.Step+")")
	case messages.ModelReplied:
		said := ev.Text
		if said == "" {
			said = "(asks for tools)"
		}
		return row("←", ev.Path, said)
	case messages.ToolCalled:
		return row("⚙", ev.Path, fmt.Sprintf("calls %s %s", ev.Name, ev.Text))
	case messages.ToolReturned:
		if ev.Error != nil {
			return row("⚙", ev.Path, fmt.Sprintf("%s failed: %s", ev.Name, short(ev.Error)))
		}
		return row("⚙", ev.Path, fmt.Sprintf("%s gave %s", ev.Name, ev.Text))
	case messages.StepFromRecord:
		name := ev.Path
		if name == "" {
			name = ev.Name
		}
		return row("≡", name, fmt.Sprintf("%s of step %s from the journal", ev.Text, ev.Step))
	case messages.TurnParked:
		return row("…", ev.Path, fmt.Sprintf("waits %s for %s: %s", wait(ev.Wait), ev.Name, short(ev.Error)))
	case messages.RunWaits:
		return row("?", ev.Path, short(ev.Error)+"\n    see: covey runs show "+ev.Run+p.where)
	case messages.AskAnswered:
		return row("✗", ev.Name, "has no answer: "+short(ev.Error))
	case messages.ActorFailed:
		return row("✗", who, short(ev.Error))
	case messages.ActorBackingOff:
		return row("…", who, fmt.Sprintf("backing off %s, until %s (restart %d in the window)", wait(ev.Wait), clock(ev.Until), ev.Attempt))
	case messages.ActorRestarted:
		return row("↻", who, "restarted")
	case messages.ActorQuarantined:
		return row("✗", who, "quarantined: "+short(ev.Error))
	case messages.ActorEscalated:
		return row("✗", who, "escalates: "+short(ev.Error))
	case messages.ActorStuck:
		return row("✗", who, "does not stop")
	case messages.ProviderRetry:
		return row("…", ev.Name, fmt.Sprintf("attempt %d failed, again in %s: %s", ev.Attempt, wait(ev.Wait), short(ev.Error)))
	case messages.BreakerOpened:
		return row("✗", ev.Name, fmt.Sprintf("breaker opens until %s: %s", clock(ev.Until), short(ev.Error)))
	case messages.BreakerHalfOpen:
		return row("…", ev.Name, "breaker half-open: one call may try")
	case messages.BreakerClosed:
		return row("✓", ev.Name, "breaker closed: recovered")
	case messages.LadderRung:
		if ev.Text == "" {
			return row("✗", ev.Name, fmt.Sprintf("no rung is left: %s", short(ev.Error)))
		}
		return row("↓", ev.Name, fmt.Sprintf("falls to %s: %s", ev.Text, short(ev.Error)))
	case messages.LadderFallback:
		return row("✓", ev.Name, ev.Text+" answered instead")
	case messages.CallParked:
		return row("?", ev.Name, "a call waits for a person: covey parked answer "+ev.Text+" TEXT")
	case messages.QueueRefused, messages.LimiterRefused:
		return row("✗", ev.Name, "refused: "+short(ev.Error))
	case messages.LimiterWait:
		return row("…", ev.Name, "waits "+wait(ev.Wait)+" for its rate limit")
	case messages.CacheHit:
		return row("≡", ev.Name, "answered from the cache")
	case messages.EventsDropped:
		return fmt.Sprintf("(%s not shown)", count(ev.Count, "event"))
	case messages.SaidEvent:
		return row("«", ev.Name, ev.Text)
	}
	return ""
}

// actorName is an actor's path without the node, the run and the supervisor of
// its tools.
func actorName(path string) string {
	parts := strings.Split(path, "/")
	switch {
	case len(parts) > 3 && parts[1] == "runs":
		return strings.Join(slices.DeleteFunc(parts[3:], func(p string) bool { return p == "tools" }), "/")
	case len(parts) > 2:
		return strings.Join(parts[2:], "/")
	}
	return path
}

func short(e *messages.Error) string {
	if e == nil {
		return ""
	}
	text := e.Message
	if text == "" {
		text = e.Error()
	}
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > 160 {
		text = string(r[:159]) + "…"
	}
	return fmt.Sprintf("%s (%s)", text, e.Class)
}

func wait(d time.Duration) string {
	if d > time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// summary is the last line of a run: what this process did, and what the run
// has cost since it began.
func summary(a messages.Answer, took time.Duration, restarts int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "run %s: %s", a.Run, count(a.Steps, "step"))
	if a.Journal > 0 {
		fmt.Fprintf(&b, " (%s from the journal)", count(a.Journal, "step"))
	}
	fmt.Fprintf(&b, " in %s", wait(took))
	if restarts > 0 {
		fmt.Fprintf(&b, ", %s", count(restarts, "restart"))
	}
	if a.Journal > 0 {
		b.WriteString("; since it began")
	}
	fmt.Fprintf(&b, ", %s, %d tokens in, %d out", count(a.Usage.Calls, "model call"), a.Usage.InputTokens, a.Usage.OutputTokens)
	return strings.Replace(b.String(), "began,", "began", 1)
}
