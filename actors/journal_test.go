package actors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// long is a team whose plan has every kind of step, and its model's rules. It
// makes 6 model calls and 2 tool calls.
func long(tools *count) (actors.Team, []scripted.Rule) {
	t := fn("t", func(context.Context) (string, error) { return fmt.Sprint("tool ", tools.add()), nil })
	inner := actors.Team{Name: "inner", Plan: planOf("b one", "a two"), Members: []actors.Member{agent("a"), agent("b")}}
	p := actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		if _, err := s.Ask(ctx, "a", "use t"); err != nil {
			return messages.Answer{}, err
		}
		if _, err := s.Now(ctx); err != nil {
			return messages.Answer{}, err
		}
		if err := s.Say(ctx, "plan", "half"); err != nil {
			return messages.Answer{}, err
		}
		if err := s.Wait(ctx, time.Millisecond); err != nil {
			return messages.Answer{}, err
		}
		var sum string
		err := s.Parallel(ctx,
			func(ctx context.Context, s *actors.Stage) error { _, err := s.Ask(ctx, "inner", "?"); return err },
			func(ctx context.Context, s *actors.Stage) error {
				n, err := actors.Once(ctx, s, "n", func(context.Context) (int, error) { return 7, nil })
				sum = fmt.Sprint(n)
				return err
			})
		if err != nil {
			return messages.Answer{}, err
		}
		a, err := s.Ask(ctx, "a", "use t")
		a.Text += " " + sum
		return a, err
	})
	rules := []scripted.Rule{
		{When: scripted.When{Result: "t"}, Reply: textReply("{{.Last}}")},
		to("use t", calls("t")), echo,
	}
	return team(p, agent("a", t), inner), rules
}

func TestStoppedAnywhereAndStartedAgain(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 24; at += 3 {
		t.Run(fmt.Sprint("after event ", at), func(t *testing.T) {
			var tools count
			tm, rules := long(&tools)
			k := newKit(t, rules...)
			r := k.run(tm, "?")
			n := 0
			ev := k.until("event", func(ev messages.Event) bool {
				if ev.Run != "" && ev.Kind != messages.ModelChunk {
					n++
				}
				return n == at || ev.Kind == messages.RunEnded
			})
			k = k.again(t)
			if _, err := r.Wait(k.ctx); err != nil {
				wantClass(t, err, messages.Stopping)
			}
			ans := k.ask(tm, "?")
			if ans.Text != "tool 2 7" || ans.Steps != 8 || ans.Usage.Calls != 6 {
				t.Errorf("stopped after %s: %+v", ev.Kind, ans)
			}
			wantCount(t, k.model, 6)
			if tools.get() != 2 {
				t.Errorf("%d tool calls", tools.get())
			}
		})
	}
}

// held is a plan that goes through ask after ask, and then waits for ever.
func held(asks ...string) actors.Plan {
	return actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		if _, err := planOf(asks...).Run(ctx, s); err != nil {
			return messages.Answer{}, err
		}
		return messages.Answer{}, s.Wait(ctx, time.Hour)
	})
}

// reachWait runs a held plan to its wait.
func (k *kit) reachWait(m actors.Member, asks int) *cluster.Run {
	k.Helper()
	r := k.run(m, "?")
	for range asks {
		k.untilKind(messages.AskAnswered)
	}
	return r
}

func TestChangedPlan(t *testing.T) {
	for _, tt := range []struct {
		name  string
		plan  actors.Plan
		words []string
	}{
		{"other prompt", held("a 1", "a two", "a 3"), []string{"step 2", `an ask to a ("2") in the journal`, `an ask to a ("two") in the plan`}},
		{"other member", held("a 1", "b 2", "a 3"), []string{"step 2", "ask to b"}},
		{"extra step", held("a 1", "a 1b", "a 2", "a 3"), []string{"step 2", "1b"}},
		{"missing step", held("a 1", "a 3"), []string{"step 2"}},
		{"ends early", planOf("a 1"), []string{"step 2 is in the journal, and the plan ended without it"}},
		{"other kind", actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
			return messages.Answer{}, s.Say(ctx, "a", "x")
		}), []string{"step 1", `said by a ("x") in the plan`}},
		{"swallowed", actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
			_, _ = s.Ask(ctx, "a", "one")
			return messages.Answer{Text: "all is well"}, nil
		}), []string{"step 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, echo)
			k.reachWait(team(held("a 1", "a 2", "a 3"), agent("a"), agent("b")), 3)
			k = k.again(t)
			k.run(team(tt.plan, agent("a"), agent("b")), "?")
			err := k.untilKind(messages.RunSuspended).Error
			wantClass(t, err, messages.Diverged, tt.words...)
			if !errors.Is(err, actors.ErrDiverged) {
				t.Error(err)
			}
			info, lost := k.Client().Run(k.ctx, "r")
			if lost != nil || info.Error != nil || info.Answer != nil || info.Steps != 3 {
				t.Errorf("the run is not as it was: %+v, %v", info, lost)
			}
			wantCount(t, k.model, 3)
		})
	}
}

func TestChangedPlanOfATeamWithin(t *testing.T) {
	of := func(p actors.Plan) actors.Team {
		return team(planOf("inner ?"), actors.Team{Name: "inner", Plan: p, Members: []actors.Member{agent("a")}})
	}
	k := newKit(t, echo)
	k.reachWait(of(held("a 1")), 1)
	k = k.again(t)
	r := k.run(of(held("a 2")), "?")
	wantClass(t, k.untilKind(messages.RunSuspended).Error, messages.Diverged, "step 1.1")
	select {
	case <-r.Done(): // the node may have begun it before r was there to be told
		if _, err := r.Wait(k.ctx); !errors.Is(err, actors.ErrDiverged) || r.Ended() {
			t.Error(err)
		}
	default:
	}
}

// A step recorded in a first walk with a schema with white space, or a text that
// is not UTF-8, is the same step in the second.
func TestSameStepAfterTheWire(t *testing.T) {
	p := actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		a, err := s.Conclude(ctx, "a", "bad \xff\xfe byte")
		if err != nil {
			return a, err
		}
		return a, s.Wait(ctx, time.Until(time.Now().Add(300*time.Millisecond)))
	})
	k := newKit(t, says(`{"n":1}`))
	task := messages.Task{ID: "r", Prompt: "?", Format: []byte(`{ "type" : "object" }`)}
	if _, err := k.Submit(k.ctx, team(p, agent("a")), task); err != nil {
		t.Fatal(err)
	}
	k.untilKind(messages.AskAnswered)
	k = k.again(t)
	r, err := k.Submit(k.ctx, team(p, agent("a")), task)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Wait(k.ctx); err != nil {
		t.Error(err)
	}
}

func TestReopenedRunRetriesTheFailingStepAlone(t *testing.T) {
	t.Parallel()
	t.Run("a failing provider", func(t *testing.T) {
		k := newKit(t, to("2", scripted.Reply{Fail: &scripted.Failure{Class: messages.Quota, Message: "no money"}}, textReply("two")), echo)
		tm := team(planOf("a 1", "a 2"), agent("a"))
		k.fails(tm, "?", messages.Quota, "no money")
		// The failure is in the journal: the same task gives it again.
		k.fails(tm, "?", messages.Quota, "no money")
		wantCount(t, k.model, 2)
		ans, err := k.resume(tm)
		if err != nil || ans.Text != "two" {
			t.Fatalf("%+v, %v", ans, err)
		}
		wantCount(t, k.model, 3)
	})
	t.Run("a malformed answer", func(t *testing.T) {
		// Its records are there, and are not what is answered again.
		k := newKit(t, to("2", textReply("bad"), textReply("good")), echo)
		a := agent("a")
		a.Validate = func(_ context.Context, s string) error {
			if s != "good" && s != "1" {
				return errors.New("not good")
			}
			return nil
		}
		tm := team(planOf("a 1", "a 2"), a)
		k.fails(tm, "?", messages.Malformed, "not good")
		wantCount(t, k.model, 4)
		ans, err := k.resume(tm)
		if err != nil || ans.Text != "good" {
			t.Fatalf("%+v, %v", ans, err)
		}
		wantCount(t, k.model, 5)
		k = k.again(t)
		if ans := k.ask(tm, "?"); ans.Text != "good" || ans.Journal != 5 {
			t.Errorf("%+v", ans)
		}
	})
	t.Run("one of two branches", func(t *testing.T) {
		// The other branch goes on after the failure: the failed step was not
		// built upon all the same.
		failed := make(chan struct{})
		k := newKit(t, to("bad", scripted.Reply{Fail: &scripted.Failure{Class: messages.Quota}}, textReply("good")), echo)
		p := actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
			var a messages.Answer
			var err1, err2 error
			_ = s.Parallel(ctx,
				func(ctx context.Context, s *actors.Stage) error {
					a, err1 = s.Ask(ctx, "a", "bad")
					if err1 != nil {
						close(failed)
					}
					return nil
				},
				func(ctx context.Context, s *actors.Stage) error {
					select {
					case <-failed:
					case <-ctx.Done():
					}
					_, err2 = s.Ask(ctx, "b", "fine")
					return nil
				})
			return a, errors.Join(err1, err2)
		})
		tm := team(p, agent("a"), agent("b"))
		k.fails(tm, "?", messages.Quota)
		ans, err := k.resume(tm)
		if err != nil || ans.Text != "good" {
			t.Fatalf("%+v, %v", ans, err)
		}
		wantCount(t, k.model, 3)
	})
	t.Run("poison", func(t *testing.T) {
		a, _ := crashing("a", "2", 3)
		tm := team(planOf("a 1", "a 2"), a)
		tm.Policy = quick
		k := newKit(t, echo)
		k.fails(tm, "?", messages.Poison)
		if ans, err := k.resume(tm); err != nil || ans.Text != "2" {
			t.Fatalf("%+v, %v", ans, err)
		}
	})
}

// A failure that the plan has built upon stays what it was.
func TestFailedAnswerThatWasBuiltUpon(t *testing.T) {
	k := newKit(t,
		to("1", scripted.Reply{Fail: &scripted.Failure{Class: messages.Quota}}, textReply("one")),
		to("2", scripted.Reply{Fail: &scripted.Failure{Class: messages.Quota}}, textReply("two")))
	tm := team(actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		if a, err := s.Ask(ctx, "a", "1"); err == nil {
			return a, nil
		}
		return s.Ask(ctx, "a", "2")
	}), agent("a"))
	k.fails(tm, "?", messages.Quota)
	if ans, err := k.resume(tm); err != nil || ans.Text != "two" {
		t.Fatalf("%+v, %v", ans, err)
	}
}

func TestSameTaskTwice(t *testing.T) {
	k := newKit(t, says("ok"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := k.Submit(k.ctx, agent("a"), messages.Task{ID: "r", Prompt: "?"})
			if err == nil {
				var a messages.Answer
				if a, err = r.Wait(k.ctx); a.Text != "ok" {
					t.Errorf("%+v", a)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantCount(t, k.model, 1)
	// Finished, it is answered from the journal, by this node and by the next.
	for range 2 {
		if a := k.ask(agent("a"), "?"); a.Text != "ok" || a.Steps != 1 || a.Journal != 1 {
			t.Errorf("%+v", a)
		}
		k = k.again(t)
	}
	wantCount(t, k.model, 1)
	if got := k.kinds(); !slices.Equal(got, []string{"begun plan", "asked plan 1", "model a 1", "answered a 1", "done plan"}) {
		t.Errorf("%q", got)
	}
}

// A run that has just ended can be started again at once: its actors' names are
// free when they are needed.
func TestResumedAtOnceAgainAndAgain(t *testing.T) {
	t.Parallel()
	k := newKit(t, scripted.Rule{Reply: scripted.Reply{Fail: &scripted.Failure{Class: messages.Invalid, Message: "no such model"}}})
	k.fails(agent("a"), "?", messages.Invalid)
	for range 10 {
		_, err := k.resume(agent("a"))
		wantClass(t, err, messages.Invalid, "no such model")
	}
	wantCount(t, k.model, 11)
}

func TestRunDeadline(t *testing.T) {
	t.Parallel()
	rule, _ := hang(scripted.HangForever)
	k := newKit(t, rule)
	r, err := k.Submit(k.ctx, agent("a"), messages.Task{ID: "r", Prompt: "?", Deadline: time.Now().Add(150 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Wait(k.ctx)
	wantClass(t, err, messages.Timeout, "deadline has passed")
	if !r.Ended() {
		t.Error("not ended")
	}
}

func TestTimerOverARestart(t *testing.T) {
	var tools count
	tm := team(actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		began, err := s.Now(ctx)
		if err != nil {
			return messages.Answer{}, err
		}
		tools.add()
		if err := s.Wait(ctx, 24*time.Hour); err != nil {
			return messages.Answer{}, err
		}
		return messages.Answer{Text: began.Format(time.RFC3339Nano)}, nil
	}), agent("a"))
	clock := fakeClock()
	k := newKitOf(t, cluster.Config{Clock: clock}, echo)
	k.run(tm, "?")
	k.untilKind(messages.RunStarted)
	if err := clock.BlockUntilContext(k.ctx, 1); err != nil {
		t.Fatal(err)
	}
	k.stop()
	clock.Advance(25 * time.Hour) // the node was down for so long
	began := clock.Now().Add(-25 * time.Hour).UTC().Round(0)
	k = startKit(t, k.dir, k.cfg, k.model)
	wantText(t, k.ask(tm, "?"), began.Format(time.RFC3339Nano))
	if tools.get() != 2 {
		t.Errorf("%d walks", tools.get())
	}
}
