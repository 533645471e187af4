package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/covey-run/covey/messages"
)

// wanted picks the events that are worth a line.
func wanted(ev messages.Event) bool {
	switch ev.Kind {
	case messages.ActorStarted, messages.ActorResumed, messages.ModelChunk, messages.ActorStopped, messages.AskAnswered:
		return false
	}
	return true
}

// show writes a line for each event, until the channel is closed.
func show(w io.Writer, events <-chan messages.Event) {
	for ev := range events {
		if l := line(ev); l != "" {
			fmt.Fprintln(w, l)
		}
	}
}

// line tells one event in words; "" for one that needs none.
func line(ev messages.Event) string {
	who := actorName(ev.Path)
	switch ev.Kind {
	case messages.RunStarted:
		if ev.Count > 0 {
			return fmt.Sprintf("run %s of team %s goes on: %s from the journal", ev.Run, ev.Name, count(ev.Count, "step"))
		}
		return fmt.Sprintf("run %s of team %s: %s", ev.Run, ev.Name, ev.Text)
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
		return row("?", ev.Path, short(ev.Error)+"; see: covey runs show "+ev.Run)
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

func row(mark, who, what string) string { return fmt.Sprintf("  %s %-14s %s", mark, who, what) }

// actorName is an actor's path without the node and the run.
func actorName(path string) string {
	parts := strings.Split(path, "/")
	switch {
	case len(parts) > 3 && parts[1] == "runs":
		return strings.Join(parts[3:], "/")
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

// summary is the last line of a run.
func summary(a messages.Answer, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "run %s: %s in %s", a.Run, count(a.Steps, "step"), wait(took))
	if a.Journal > 0 {
		fmt.Fprintf(&b, " (%s from the journal)", count(a.Journal, "step"))
	}
	if a.Restarts > 0 {
		fmt.Fprintf(&b, ", %s", count(a.Restarts, "restart"))
	}
	fmt.Fprintf(&b, ", %s, %d tokens in, %d out", count(a.Usage.Calls, "model call"), a.Usage.InputTokens, a.Usage.OutputTokens)
	return b.String()
}
