package actors_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func TestDrainWaitsForTheModelCall(t *testing.T) {
	rule, called := hang(scripted.HangForever)
	rule.When.Last = "slow"
	k := newKit(t, rule, echo)
	draining := make(chan struct{})
	tm := team(actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		err := s.Parallel(ctx,
			func(ctx context.Context, s *actors.Stage) error {
				_, err := planOf("a slow", "a next").Run(ctx, s)
				return err
			},
			func(ctx context.Context, s *actors.Stage) error {
				err := s.Wait(ctx, time.Hour)
				close(draining)
				<-ctx.Done() // the other branch's end
				return err
			})
		// A plan that makes light of its errors is not done all the same.
		_ = err
		return messages.Answer{Text: "all is well"}, nil
	}), agent("a"))
	r := k.run(tm, "?")
	wait(t, "call", called)
	stopped := make(chan error, 1)
	go func() { stopped <- k.Stop(k.ctx) }()
	wait(t, "drain", draining)
	select {
	case err := <-stopped:
		t.Fatalf("did not wait: %v", err)
	default:
	}
	k.model.Release()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	_, err := r.Wait(k.ctx)
	wantClass(t, err, messages.Stopping, "can be resumed")
	wantCount(t, k.model, 1)
	// Its reply was recorded, and the next step not begun.
	c, err := cluster.Open(k.ctx, cluster.Config{Dir: k.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	info, err := c.Run(k.ctx, "r")
	if err != nil || info.Steps != 1 || info.State != messages.RunInterrupted {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestStopWithAHungModelNamesIt(t *testing.T) {
	t.Parallel()
	rule, called := hang(scripted.HangForever)
	k := newKit(t, rule)
	tm := team(planOf("inner ?"), actors.Team{Name: "inner", Plan: planOf("b x"), Members: []actors.Member{agent("b")}})
	r := k.run(tm, "?")
	wait(t, "call", called)
	short, cancel := context.WithTimeout(k.ctx, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := k.Stop(short)
	wantClass(t, err, messages.Timeout, "r (inner/b: step 1.1: model call 1)")
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("took %s", d)
	}
	_, err = r.Wait(k.ctx)
	wantClass(t, err, messages.Stopping)
}

// What only waits does not hold a stop up.
func TestDrainEndsWhatOnlyWaits(t *testing.T) {
	t.Run("a timer", func(t *testing.T) {
		k := newKit(t, echo)
		k.reachWait(team(held("a 1"), agent("a")), 1)
		k.stop()
	})
	t.Run("a parked turn", func(t *testing.T) {
		k := newKitOf(t, tuned(provider.StackConfig{Breaker: provider.BreakerConfig{Failures: 1, OpenFor: time.Minute}}),
			scripted.Rule{Reply: scripted.Reply{Fail: &scripted.Failure{}}})
		k.run(agent("a"), "?")
		k.until("a long park", func(ev messages.Event) bool { return ev.Kind == messages.TurnParked && ev.Wait > time.Second })
		k.stop()
	})
}

func TestDrainedNodeTakesNothing(t *testing.T) {
	k := newKit(t, echo)
	k.stop()
	_, err := k.Submit(k.ctx, agent("a"), messages.Task{Prompt: "?"})
	if err == nil {
		t.Error("taken")
	}
}

func TestEventsOfARun(t *testing.T) {
	k := newKit(t, used("t")...)
	k.ask(agent("a", fn("t", nil2)), "?")
	k.until("end of the actors", func(ev messages.Event) bool {
		return ev.Kind == messages.ActorStopped && ev.Path == "n/runs/r"
	})
	var got []messages.EventKind
	for _, ev := range k.heard {
		if ev.Run == "r" {
			got = append(got, ev.Kind)
			if ev.Time.IsZero() {
				t.Errorf("no time: %+v", ev)
			}
		}
	}
	got = slices.DeleteFunc(got, func(kind messages.EventKind) bool {
		return kind == messages.ModelChunk || strings.HasPrefix(string(kind), "provider.")
	})
	want := []messages.EventKind{
		messages.RunStarted, messages.AskSent, messages.ModelReplied, messages.ToolCalled, messages.ToolReturned,
		messages.ModelReplied, messages.AskAnswered, messages.RunEnded,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for _, path := range []string{"n/runs/r", "n/runs/r/a", "n/runs/r/tools", "n/runs/r/tools/a.t"} {
		if !slices.ContainsFunc(k.heard, func(ev messages.Event) bool { return ev.Kind == messages.ActorStarted && ev.Path == path }) {
			t.Errorf("%s did not start", path)
		}
	}
	if n := slices.IndexFunc(k.heard, func(ev messages.Event) bool { return ev.Kind == messages.ModelChunk }); n < 0 || k.heard[n].Path != "a" {
		t.Error("no chunk")
	}
}

// What is read is told as read, and not as done again.
func TestEventsOfAResumedRun(t *testing.T) {
	p := actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		if err := s.Say(ctx, "plan", "hello"); err != nil {
			return messages.Answer{}, err
		}
		return held("a 1").Run(ctx, s)
	})
	k := newKit(t, echo)
	k.reachWait(team(p, agent("a")), 1)
	k = k.again(t)
	k.run(team(p, agent("a")), "?")
	if ev := k.untilKind(messages.RunStarted); ev.Count != 1 {
		t.Errorf("%+v", ev)
	}
	k.untilKind(messages.StepFromRecord)
	if n := k.heardOf(messages.SaidEvent) + k.heardOf(messages.AskSent); n != 0 {
		t.Errorf("told again: %s", k.told())
	}
}
