package actors_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// crashing is an agent whose code panics when it judges an answer, the first
// times times that the answer holds a word.
func crashing(name, word string, times int) (actors.Agent, *count) {
	a, n := agent(name), &count{}
	a.Validate = func(_ context.Context, answer string) error {
		if strings.Contains(answer, word) && n.add() <= times {
			panic("crashed on " + word)
		}
		return nil
	}
	return a, n
}

// crashingOnce is an agent whose code panics at the first sight of each answer.
func crashingOnce(name string, crashes *count) actors.Agent {
	var mu sync.Mutex
	seen := map[string]bool{}
	a := agent(name)
	a.Validate = func(_ context.Context, answer string) error {
		mu.Lock()
		first := !seen[answer]
		seen[answer] = true
		mu.Unlock()
		if first {
			crashes.add()
			panic("first " + answer)
		}
		return nil
	}
	return a
}

// echo answers with the last message.
var echo = says("{{.Last}}")

func TestCrashGoesOnWithoutRepeatingCalls(t *testing.T) {
	t.Parallel()
	a, n := crashing("a", "done", 2)
	var tools count
	a.Tools = []tool.Tool{fn("t", func(context.Context) (string, error) { tools.add(); return "done", nil })}
	k := newKit(t, scripted.Rule{When: scripted.When{Result: "t"}, Reply: textReply("{{.Last}}")}, scripted.Rule{Reply: calls("t")})
	ans := k.ask(a, "?")
	if ans.Text != "done" || ans.Restarts != 2 || ans.Usage.Calls != 2 {
		t.Errorf("%+v", ans)
	}
	wantCount(t, k.model, 2)
	if tools.get() != 1 || n.get() != 3 {
		t.Errorf("%d tool calls, %d judgements", tools.get(), n.get())
	}
	var waits []time.Duration
	for _, ev := range k.all() {
		if ev.Kind == messages.ActorBackingOff && strings.HasSuffix(ev.Path, "runs/r/a") {
			waits = append(waits, ev.Wait)
			if ev.Class != messages.Crashed || ev.Until.IsZero() || ev.Attempt != len(waits) {
				t.Errorf("%+v", ev)
			}
		}
	}
	if len(waits) != 2 || waits[0] < 80*time.Millisecond || waits[1] < 160*time.Millisecond {
		t.Errorf("waits %v", waits)
	}
}

func TestPoison(t *testing.T) {
	a, n := crashing("a", "bad", 1000)
	tm := team(planOf("a good", "a bad"), a)
	tm.Policy = quick
	k := newKit(t, echo)
	e := k.fails(tm, "?", messages.Poison, "step 2 crashed its agent 3 times", "crashed on bad")
	if !strings.Contains(e.Stack, "crash_test.go") || len(e.Others) != 3 {
		t.Errorf("%d others, stack %q", len(e.Others), e.Stack)
	}
	if n.get() != 3 {
		t.Errorf("%d tries", n.get())
	}
	wantCount(t, k.model, 2)
	// The journal keeps it, beside what was said.
	info, err := k.Client().Run(k.ctx, "r")
	if err != nil || info.Error == nil || !strings.Contains(info.Error.Stack, "crash_test.go") {
		t.Errorf("%+v, %v", info.Error, err)
	}
	if got := k.kinds(); !slices.Contains(got, "answered a 2") {
		t.Errorf("the plan saw what is not in the journal: %q", got)
	}
}

func TestIntensityOverDifferentSteps(t *testing.T) {
	a := crashingOnce("a", &count{})
	tm := team(planOf("a 1", "a 2", "a 3", "a 4", "a 5", "a 6"), a)
	tm.Policy = quick
	k := newKit(t, echo)
	k.fails(tm, "?", messages.Crashed, "gave up after 5 restarts", "first 6")
	k.untilKind(messages.ActorQuarantined)
}

// What a member that is no more is asked is answered at once: nothing hangs.
func TestAskingAMemberThatIsNoMore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		restart supervisor.Restart
		policy  supervisor.Policy
	}{
		{"temporary", supervisor.Temporary, quick},
		{"stopped by class", "", supervisor.Policy{OnClass: map[messages.Class]supervisor.Directive{messages.Crashed: supervisor.DoStop}}},
		{"quarantined by class", "", supervisor.Policy{OnClass: map[messages.Class]supervisor.Directive{messages.Crashed: supervisor.DoQuarantine}}},
		{"nobody to escalate to", "", supervisor.Policy{OnClass: map[messages.Class]supervisor.Directive{messages.Crashed: supervisor.DoEscalate}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := crashing("a", "bad", 1)
			a.Restart = tt.restart
			var first error
			tm := team(actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
				_, first = s.Ask(ctx, "a", "bad")
				return s.Ask(ctx, "a", "good")
			}), a)
			tm.Policy = tt.policy
			k := newKit(t, echo)
			e := k.fails(tm, "?", messages.Crashed, "crashed on bad")
			wantClass(t, first, messages.Crashed, "crashed on bad")
			if !strings.Contains(e.Stack, "crash_test.go") {
				t.Error("no stack")
			}
		})
	}
}

func TestTransientRestarts(t *testing.T) {
	a, _ := crashing("a", "good", 1)
	a.Restart = supervisor.Transient
	tm := team(planOf("a good"), a)
	tm.Policy = quick
	k := newKit(t, echo)
	if ans := k.ask(tm, "?"); ans.Restarts != 1 {
		t.Errorf("%+v", ans)
	}
}

func TestResumeDoesNotWedgeTheTurn(t *testing.T) {
	a, n := crashing("a", "good", 1)
	tm := team(planOf("a good", "a more"), a)
	tm.Policy = supervisor.Policy{OnClass: map[messages.Class]supervisor.Directive{messages.Crashed: supervisor.DoResume}}
	k := newKit(t, echo)
	ans := k.ask(tm, "?")
	if ans.Text != "more" || ans.Restarts != 0 || n.get() != 2 {
		t.Errorf("%+v after %d judgements", ans, n.get())
	}
	wantCount(t, k.model, 2)
	k.untilKind(messages.ActorResumed)
}

// together asks two members, or one twice, at the same time.
func together(asks ...string) actors.Plan {
	return actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		out := make([]string, len(asks))
		var branches []func(context.Context, *actors.Stage) error
		for i, ask := range asks {
			member, prompt, _ := strings.Cut(ask, " ")
			branches = append(branches, func(ctx context.Context, s *actors.Stage) error {
				a, err := s.Ask(ctx, member, prompt)
				out[i] = a.Text
				return err
			})
		}
		err := s.Parallel(ctx, branches...)
		return messages.Answer{Text: strings.Join(out, "+")}, err
	})
}

func TestTwoAsksQueuedWhenTheirMemberCrashes(t *testing.T) {
	for _, d := range []supervisor.Directive{supervisor.DoRestart, supervisor.DoResume} {
		t.Run(string(d), func(t *testing.T) {
			a, n := crashing("a", "x", 2)
			tm := team(together("a x1", "a x2", "a x3"), a)
			tm.Policy = quick
			tm.Policy.OnClass = map[messages.Class]supervisor.Directive{messages.Crashed: d}
			k := newKit(t, echo)
			wantText(t, k.ask(tm, "?"), "x1+x2+x3")
			wantCount(t, k.model, 3)
			if n.get() != 5 {
				t.Errorf("%d judgements", n.get())
			}
		})
	}
}

// The crash is counted against the step that was worked on, not against the one
// that was asked first.
func TestPoisonSparesTheOthers(t *testing.T) {
	a, _ := crashing("a", "bad", 1000)
	good := make(chan error, 2)
	tm := team(actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		var bad error
		err := s.Parallel(ctx,
			func(ctx context.Context, s *actors.Stage) error {
				_, err := s.Ask(ctx, "a", "good")
				good <- err
				return nil
			},
			func(ctx context.Context, s *actors.Stage) error { _, bad = s.Ask(ctx, "a", "bad"); return nil },
			func(ctx context.Context, s *actors.Stage) error {
				_, err := s.Ask(ctx, "a", "fine")
				good <- err
				return nil
			})
		if err != nil {
			return messages.Answer{}, err
		}
		return messages.Answer{}, bad
	}), a)
	tm.Policy = quick
	k := newKit(t, echo)
	k.fails(tm, "?", messages.Poison, "crashed on bad")
	for range 2 {
		if err := <-good; err != nil {
			t.Errorf("an innocent step: %v", err)
		}
	}
}

// A sibling's failures are not a member's own: restarted three times with it, it
// is not poison, and its turn goes on.
func TestAllForOne(t *testing.T) {
	var crashes count
	b, c := crashingOnce("b", &crashes), agent("c")
	tm := team(together("b x1", "c slow", "b x2", "b x3"), b, c)
	tm.Policy = supervisor.Policy{Strategy: supervisor.AllForOne, Backoff: supervisor.Backoff{Initial: -1}}
	// The call of a turn that was restarted goes on, and its next one joins it.
	slow := scripted.Rule{When: scripted.When{Last: "slow"}, Reply: scripted.Reply{Text: "slow", Delay: 200 * time.Millisecond}}
	k := newKit(t, slow, echo)
	ans := k.ask(tm, "?")
	if ans.Text != "x1+slow+x2+x3" || ans.Restarts != 6 {
		t.Errorf("%+v", ans)
	}
}

// A tool call that is in the air when its agent is restarted is waited for, and
// not made again.
func TestToolCallOutlivesItsTurn(t *testing.T) {
	var n count
	called, release := make(chan struct{}), make(chan struct{})
	a := agent("a", fn("pay", func(context.Context) (string, error) {
		n.add()
		close(called)
		<-release
		return "paid", nil
	}))
	b := agent("b")
	b.Validate = func(context.Context, string) error {
		select {
		case <-called:
		case <-time.After(limit):
		}
		if n.add() == 2 {
			panic("sibling")
		}
		return nil
	}
	// b first: its failure restarts what was spawned after it, and not the tools.
	tm := team(together("b x", "a pay"), b, a)
	tm.Policy = supervisor.Policy{Strategy: supervisor.RestForOne, Backoff: supervisor.Backoff{Initial: -1}}
	k := newKit(t, scripted.Rule{When: scripted.When{Result: "pay"}, Reply: textReply("{{.Last}}")}, to("pay", calls("pay")), echo)
	r := k.run(tm, "?")
	k.until("restart of a", func(ev messages.Event) bool {
		return ev.Kind == messages.ActorRestarted && strings.HasSuffix(ev.Path, "runs/r/a")
	})
	close(release)
	ans, err := r.Wait(k.ctx)
	if err != nil || ans.Text != "x+paid" || n.get() != 3 { // one payment, two judgements
		t.Errorf("%+v, %v, %d", ans, err, n.get())
	}
	if got := k.kinds(); len(got) != len(slices.Compact(slices.Sorted(slices.Values(got))))+1 { // two model replies of step 1.2.1 alone
		t.Errorf("recorded twice: %q", got)
	}
}

// A call that waits for its tool's restart when its turn ends is never made.
func TestToolCallIsWithdrawn(t *testing.T) {
	clock := fakeClock()
	var n count
	bomb := fn("bomb", func(context.Context) (string, error) { n.add(); panic("boom") })
	k := newKitOf(t, cluster.Config{Clock: clock}, scripted.Rule{Reply: calls("bomb")})
	r := k.run(agent("a", bomb), "?")
	asked, backingOff := 0, false
	k.until("second call, and the backoff before it", func(ev messages.Event) bool {
		if ev.Kind == messages.ToolCalled {
			asked++
		}
		backingOff = backingOff || ev.Kind == messages.ActorBackingOff
		return asked == 2 && backingOff
	})
	if err := r.Cancel(k.ctx, ""); err != nil {
		t.Fatal(err)
	}
	_, err := r.Wait(k.ctx)
	wantClass(t, err, messages.Canceled, "no reason given")
	clock.Advance(time.Hour)
	k.stop()
	if n.get() != 1 {
		t.Errorf("%d calls", n.get())
	}
}

func TestPanicInATeamWithinATeam(t *testing.T) {
	// The inner team's member crashes beyond its intensity: the failure goes up,
	// the inner team starts again, and the step that does it is poison.
	a, _ := crashing("a", "bad", 1000)
	inner := actors.Team{Name: "inner", Plan: planOf("a bad"), Members: []actors.Member{a}, Policy: supervisor.Policy{
		Backoff: supervisor.Backoff{Initial: -1}, OnClass: map[messages.Class]supervisor.Directive{messages.Crashed: supervisor.DoEscalate},
	}}
	outer := team(planOf("inner ?"), inner)
	outer.Policy = quick
	k := newKit(t, echo)
	k.fails(outer, "?", messages.Poison, "step 1 crashed its agent 3 times", "crashed on bad")
	wantCount(t, k.model, 1)
}
