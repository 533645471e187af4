package actors_test

import (
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

func tuned(s provider.StackConfig) cluster.Config {
	if s.Retry.Attempts == 0 {
		s.Retry.Attempts = 1
	}
	return cluster.Config{Providers: map[string]provider.StackConfig{"m": s}}
}

func ofProvider(kind messages.EventKind) func(messages.Event) bool {
	return func(ev messages.Event) bool { return ev.Kind == kind && strings.HasSuffix(ev.Path, "/providers/m") }
}

func TestClientPanicRestartsItsProvider(t *testing.T) {
	t.Parallel()
	k := newKit(t, scripted.Rule{Reply: scripted.Reply{Panic: "boom"}, Then: []scripted.Reply{{Text: "ok"}}})
	wantText(t, k.ask(agent("a"), "?"), "ok")
	wantCount(t, k.model, 2)
	if ev := k.until("failure of the provider", ofProvider(messages.ActorFailed)); !strings.Contains(ev.Error.Error(), "boom") || ev.Error.Stack == "" {
		t.Errorf("%+v", ev)
	}
	k.until("restart of the provider", ofProvider(messages.ActorRestarted))
}

// Calls that crash one client together cost their provider one restart.
func TestOneRestartForOneClient(t *testing.T) {
	t.Parallel()
	var n count
	all := make(chan struct{})
	bomb := scripted.Rule{When: scripted.When{Match: func(*provider.Request) bool { return n.get() < 4 }}, Reply: scripted.Reply{Delay: 30 * time.Millisecond, Panic: "boom"}}
	bomb.When.Match = func(*provider.Request) bool {
		i := n.add()
		if i == 4 {
			close(all)
		}
		return i <= 4
	}
	a := []actors.Member{agent("a"), agent("b"), agent("c"), agent("d")}
	k := newKitOf(t, tuned(provider.StackConfig{Breaker: provider.BreakerConfig{Failures: 100}}), bomb, echo)
	wantText(t, k.ask(team(together("a 1", "b 2", "c 3", "d 4"), a...), "?"), "1+2+3+4")
	wait(t, "four calls", all)
	if n := len(slices.DeleteFunc(slices.Clone(k.all()), func(ev messages.Event) bool { return !ofProvider(messages.ActorFailed)(ev) })); n != 1 {
		t.Errorf("%d failures of the provider", n)
	}
}

func TestBreakerSurvivesItsProvidersRestart(t *testing.T) {
	t.Parallel()
	k := newKitOf(t, tuned(provider.StackConfig{Breaker: provider.BreakerConfig{Failures: 1, Successes: 1, OpenFor: 400 * time.Millisecond}}),
		scripted.Rule{Reply: scripted.Reply{Panic: "boom"}, Then: []scripted.Reply{{Text: "ok"}}})
	r := k.run(agent("a"), "?")
	opened := k.untilKind(messages.BreakerOpened)
	k.until("restart of the provider", ofProvider(messages.ActorRestarted))
	n, _ := find(k.Tree(k.ctx), "providers/m")
	if n.Detail["breaker"] != "open" || !n.Until.Equal(opened.Until) {
		t.Errorf("%+v", n)
	}
	parked := k.until("parked turn", func(ev messages.Event) bool {
		return ev.Kind == messages.TurnParked && ev.Until.Sub(opened.Until).Abs() < 20*time.Millisecond
	})
	if parked.Class != messages.Unavailable || parked.Path != "a" || parked.Step != "1" {
		t.Errorf("%+v", parked)
	}
	ans, err := r.Wait(k.ctx)
	if err != nil || ans.Text != "ok" || time.Now().Before(opened.Until) {
		t.Errorf("%+v, %v", ans, err)
	}
	wantCount(t, k.model, 2)
	k.untilKind(messages.BreakerClosed)
}

func TestPatienceSpent(t *testing.T) {
	t.Parallel()
	broken := scripted.Rule{Reply: scripted.Reply{Fail: &scripted.Failure{Class: messages.Throttled, Message: "slow down", Status: 429}}}
	t.Run("no patience", func(t *testing.T) {
		k := newKit(t, broken)
		a := agent("a")
		a.MaxPark = -1
		if e := k.fails(a, "?", messages.Throttled, "slow down"); e.Status != 429 {
			t.Errorf("%+v", e)
		}
		wantCount(t, k.model, 1)
	})
	t.Run("breaker open for longer", func(t *testing.T) {
		k := newKitOf(t, tuned(provider.StackConfig{Breaker: provider.BreakerConfig{Failures: 1, OpenFor: time.Hour}}), broken)
		a := agent("a")
		a.MaxPark = time.Second // one wait of a quarter, and then the breaker's hour
		e := k.fails(a, "?", messages.Unavailable, "breaker is open")
		if len(e.Others) != 1 || e.Others[0].Class != messages.Throttled || e.Others[0].Message != "slow down" {
			t.Errorf("the failure behind it: %+v", e.Others)
		}
		wantCount(t, k.model, 1)
	})
}

func TestQueueFull(t *testing.T) {
	rule, called := hang(scripted.HangUntilCanceled)
	k := newKitOf(t, tuned(provider.StackConfig{Queue: provider.QueueConfig{Concurrency: 1, Waiting: -1}}), rule)
	first, err := k.Submit(k.ctx, agent("a"), messages.Task{Prompt: "?"})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "call", called)
	b := agent("b")
	b.MaxPark = -1
	k.fails(b, "?", messages.Unavailable, "queue is full")
	if err := first.Cancel(k.ctx, ""); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownProvider(t *testing.T) {
	k := newKit(t, echo)
	a := agent("a")
	a.Model = "nobody/x"
	_, err := k.Submit(k.ctx, a, messages.Task{Prompt: "?"}) // before anything is begun
	wantClass(t, err, messages.Invalid, `no provider is called "nobody"`, "ollama")
}
