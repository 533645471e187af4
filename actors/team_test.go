package actors_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/messages"
)

// told is what the n-th call of the model was told last.
func (k *kit) toldIn(n int) string {
	k.Helper()
	cs := k.model.Calls()
	if len(cs) < n {
		k.Fatalf("%d calls of the model", len(cs))
	}
	ms := cs[n-1].Request.Messages
	return ms[len(ms)-1].Content
}

// byRole answers with the agent's name, taken from its role, and its n-th word.
var byRole = says(`{{slice .System 8 9}}{{.Call}}`)

func TestTeamsWithinTeams(t *testing.T) {
	// The same names on every level, and in two teams of one level.
	leaf := func(name string) actors.Team {
		return actors.Team{Name: name, Plan: plan.Pipeline{}, Members: []actors.Member{agent("a"), agent("b")}}
	}
	mid := actors.Team{Name: "mid", Plan: plan.Pipeline{}, Members: []actors.Member{leaf("a"), leaf("b")}}
	top := team(plan.Pipeline{}, agent("a"), mid)
	k := newKit(t, byRole)
	a := k.ask(top, "why?")
	if a.Text != "b5" || a.By != "mid" || a.Steps != 5 || a.Usage.Calls != 5 {
		t.Errorf("%+v", a)
	}
	// The innermost hears what was said on every level above it.
	if got, want := k.toldIn(5), "The discussion so far:\n\n[a] a1\n\n[a] b3\n\n[a] a4\n\nwhy?"; got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
	writers := map[string]bool{}
	for _, e := range k.records() {
		writers[e.Writer] = true
	}
	for _, w := range []string{"plan", "a", "mid", "mid/plan", "mid/a", "mid/a/plan", "mid/a/a", "mid/a/b", "mid/b", "mid/b/plan", "mid/b/a", "mid/b/b"} {
		if !writers[w] {
			t.Errorf("nothing by %s: %v", w, writers)
		}
	}
	// And all of it is answered from the journal.
	k = k.again(t)
	if b := k.ask(top, "why?"); b.Text != a.Text || b.Journal != 5 {
		t.Errorf("%+v", b)
	}
	wantCount(t, k.model, 5)
}

func TestStageCalls(t *testing.T) {
	var walks count
	p := actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		if s.Prompt() != "?" || len(s.Discussion()) != 0 || strings.Join(s.Members(), "") != "ab" {
			t.Errorf("%q %v %v", s.Prompt(), s.Discussion(), s.Members())
		}
		n, err := actors.Once(ctx, s, "walk", func(context.Context) (int, error) { return walks.add(), nil })
		if err != nil {
			return messages.Answer{}, err
		}
		_, err = s.Ask(ctx, "nobody", "x")
		wantClass(t, err, messages.Invalid, `no member "nobody"`, "[a b]")
		if _, err := actors.Once(ctx, s, "failing", func(context.Context) (int, error) { return 0, errors.New("not now") }); err == nil {
			t.Error("no error")
		}
		_, err = actors.Once(ctx, s, "chan", func(context.Context) (chan int, error) { return nil, nil })
		wantClass(t, err, messages.Invalid, "once")
		if err := s.Say(ctx, "a", "by the way"); err != nil {
			return messages.Answer{}, err
		}
		err = s.Parallel(ctx,
			func(ctx context.Context, s *actors.Stage) error { _, err := s.Ask(ctx, "a", "1"); return err },
			func(ctx context.Context, s *actors.Stage) error { _, err := s.Ask(ctx, "b", "2"); return err })
		return messages.Answer{Text: strings.Repeat("x", n)}, err
	})
	k := newKit(t, echo)
	wantText(t, k.ask(team(p, agent("a"), agent("b")), "?"), "x")
	k.until("word", func(ev messages.Event) bool { return ev.Kind == messages.SaidEvent && ev.Text == "by the way" })
}

// The plan sees the same value in every walk: what came back from JSON.
func TestOnceIsTheSameInEveryWalk(t *testing.T) {
	type v struct {
		Seen   string
		hidden string
	}
	p := actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		x, err := actors.Once(ctx, s, "v", func(context.Context) (v, error) { return v{"seen", "hidden"}, nil })
		return messages.Answer{Text: x.Seen + x.hidden}, err
	})
	k := newKit(t, echo)
	wantText(t, k.ask(team(p, agent("a")), "?"), "seen")
}

func TestParallelEndsTheOthers(t *testing.T) {
	rule, called := hang(scripted.HangUntilCanceled)
	rule.When.Last = "slow"
	p := actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		return messages.Answer{}, s.Parallel(ctx,
			func(ctx context.Context, s *actors.Stage) error { _, err := s.Ask(ctx, "a", "slow"); return err },
			func(context.Context, *actors.Stage) error {
				wait(t, "call", called)
				return errors.New("second thoughts")
			},
			func(context.Context, *actors.Stage) error { return nil })
	})
	k := newKit(t, rule)
	k.fails(team(p, agent("a")), "?", messages.Crashed, "second thoughts")
}

func TestPlanFailures(t *testing.T) {
	for _, tt := range []struct {
		name  string
		plan  actors.PlanFunc
		class messages.Class
		words string
	}{
		{"panic", func(context.Context, *actors.Stage) (messages.Answer, error) { panic("boom") }, messages.Crashed, "the plan panicked: boom"},
		{"panic in a branch", func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
			return messages.Answer{}, s.Parallel(ctx, func(context.Context, *actors.Stage) error { panic("boom") })
		}, messages.Crashed, "a branch of the plan panicked: boom"},
		{"error", func(context.Context, *actors.Stage) (messages.Answer, error) {
			return messages.Answer{}, errors.New("out of ideas")
		}, messages.Crashed, "out of ideas"},
		{"classed error, wrapped", func(context.Context, *actors.Stage) (messages.Answer, error) {
			return messages.Answer{}, errors.Join(errors.New("phase two"), messages.Errorf(messages.Quota, "bank", "no money"))
		}, messages.Quota, "phase two"},
		{"an error that claims an interruption", func(context.Context, *actors.Stage) (messages.Answer, error) {
			return messages.Answer{}, messages.Errorf(messages.Stopping, "", "some other service stops")
		}, messages.Crashed, "some other service stops"},
		{"its own timeout", func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			return messages.Answer{}, s.Wait(ctx, time.Hour)
		}, messages.Timeout, "deadline"},
		{"its own cancel", func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return s.Ask(ctx, "a", "x")
		}, messages.Canceled, "canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, echo)
			r := k.run(team(tt.plan, agent("a")), "?")
			_, err := r.Wait(k.ctx)
			wantClass(t, err, tt.class, tt.words)
			if !r.Ended() {
				t.Error("not ended")
			}
			if e := messages.AsError(err, "", ""); strings.HasPrefix(tt.name, "panic") && !strings.Contains(e.Stack, "team_test.go") {
				t.Errorf("stack %q", e.Stack)
			}
		})
	}
}

func TestPlanPanicIsResumable(t *testing.T) {
	var walks count
	tm := team(actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		a, err := s.Ask(ctx, "a", "1")
		if walks.add() == 1 {
			panic("boom")
		}
		return a, err
	}), agent("a"))
	k := newKit(t, echo)
	k.fails(tm, "?", messages.Crashed, "boom")
	if a, err := k.resume(tm); err != nil || a.Text != "1" || a.Journal != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	wantCount(t, k.model, 1)
}

func TestCancelWithAReason(t *testing.T) {
	k := newKit(t, echo)
	r := k.reachWait(team(held("a 1"), agent("a")), 1)
	if err := r.Cancel(k.ctx, "enough"); err != nil {
		t.Fatal(err)
	}
	_, err := r.Wait(k.ctx)
	wantClass(t, err, messages.Canceled, "enough")
	if !r.Ended() {
		t.Error("not ended")
	}
}

func TestFormatIsForTheConclusionAlone(t *testing.T) {
	k := newKit(t, scripted.Rule{When: scripted.When{Format: "*"}, Reply: textReply(`{}`)}, echo)
	r, err := k.Submit(k.ctx, team(plan.Pipeline{}, agent("a"), agent("b")), messages.Task{ID: "r", Prompt: "?", Format: []byte(`{"type":"object"}`)})
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.Wait(k.ctx)
	if err != nil || a.Text != "{}" || k.model.Calls()[0].Request.Format != nil {
		t.Errorf("%+v, %v", a, err)
	}
}
