package actors_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

var gpu = like{pools: []string{"gpu"}}

func TestMemberLivesOnTheLeastLoadedNodeOfItsPool(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	b := w.node("b", like{pools: []string{"gpu"}, guests: 5}, echo)
	c := w.node("c", like{pools: []string{"cpu", "gpu"}, guests: 1}, echo)
	d := w.node("d", like{pools: []string{"cpu"}}, echo)
	ans := w.answer(a.run(team(planOf("x one", "x two"), on("gpu", "x"))))
	if ans.Text != "two" || ans.Steps != 2 || ans.Usage.Calls != 2 || ans.Restarts != 0 {
		t.Errorf("%+v", ans)
	}
	if ev := a.until(messages.MemberPlaced, ""); ev.Name != "c" || ev.Path != "x" || ev.Run != "r" {
		t.Errorf("%+v", ev)
	}
	wantCount(t, a.model, 0)
	wantCount(t, b.model, 0)
	wantCount(t, c.model, 2)
	wantCount(t, d.model, 0)
	c.empty()
	want := []string{"begun plan", "asked plan 1", "model x 1", "answered x 1", "asked plan 2", "model x 2", "answered x 2", "done plan"}
	if got := w.kinds(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestTreesOfAMemberThatLivesElsewhere(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	rule, called := hang(scripted.HangForever)
	rule.Reply.Text = "late"
	b := w.node("b", gpu, rule)
	r := a.run(team(planOf("x ?"), on("gpu", "x")))
	wait(t, "call", called)
	proxy := a.at("runs/r/x")
	if proxy.Kind != "agent" || proxy.State != messages.Running || proxy.Detail["node"] != "b" || proxy.Detail["model"] != "m" || proxy.Step != "working on step 1 on b" {
		t.Errorf("%+v", proxy)
	}
	guest := b.at("guests/r.x")
	if guest.Kind != "guest" || guest.Detail["owner"] != a.info.Owner() || len(guest.Children) != 1 || !strings.Contains(guest.Children[0].Step, "model call 1") {
		t.Errorf("%+v", guest)
	}
	if b.rt.Guests() != 1 || a.rt.Guests() != 0 {
		t.Error("guests are counted wrongly")
	}
	b.model.Release()
	w.answer(r)
}

// What others say of their load is old; what was placed a moment ago counts.
func TestManyMembersSpreadOverThePool(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	var nodes []*member
	for _, name := range []string{"b", "c", "d"} {
		nodes = append(nodes, w.node(name, gpu, echo))
	}
	tm := team(planOf("a ?", "b ?", "c ?", "d ?", "e ?", "f ?"))
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		tm.Members = append(tm.Members, on("gpu", name))
	}
	w.answer(a.run(tm))
	for _, n := range nodes {
		if n.model.Count() != 2 {
			t.Errorf("%d of 6 members on %s", n.model.Count(), n.info.Node)
		}
	}
}

func TestMemberWaitsForANode(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	w.node("other", like{pools: []string{"cpu"}})
	x := on("gpu", "x")
	x.Uses = []string{"render"}
	r := a.run(team(planOf("x ?"), x))
	if ev := a.until(messages.MemberWaits, ""); ev.Text != "waits for a node of pool gpu with the tools render" {
		t.Errorf("%q", ev.Text)
	}
	if got := a.at("runs/r/x"); got.State != messages.Parked || got.Step != "waits for a node of pool gpu with the tools render" {
		t.Errorf("%+v", got)
	}
	w.node("b", gpu, echo) // without the tool
	w.node("c", like{pools: []string{"gpu"}, tools: []tool.Tool{fn("render", nil2)}}, echo)
	wantText(t, w.answer(r), "?")
	if ev := a.until(messages.MemberPlaced, ""); ev.Name != "c" {
		t.Errorf("%+v", ev)
	}
}

func TestDeadlineWhileAMemberWaitsForANode(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	r := a.runBy(team(planOf("x ?"), on("gpu", "x")), time.Now().Add(50*time.Millisecond))
	_, err := r.Wait(w.ctx)
	wantClass(t, err, messages.Timeout, "deadline")
}

func TestNodesThatRefuseAMember(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	full := w.node("full", like{pools: []string{"gpu"}, room: -1}, echo)
	w.node("stranger", like{pools: []string{"gpu"}}, echo)
	w.knows = func(node string) bool { return node != "stranger" }
	r := a.run(team(planOf("x ?"), on("gpu", "x")))
	step := a.until(messages.MemberWaits, "").Text
	if !strings.HasPrefix(step, "waits for a node of pool gpu: ") || !strings.Contains(step, "refuses: ") {
		t.Errorf("%q", step)
	}
	drained := w.node("drained", gpu, echo)
	ok(t, drained.rt.Drain(w.ctx))
	good := w.node("good", like{pools: []string{"gpu"}, guests: 9}, echo)
	w.answer(r)
	wantCount(t, good.model, 1)
	wantCount(t, full.model, 0)
}

func TestHomeDiesInMidTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.node("a", like{})
	var tools count
	x := on("gpu", "x", fn("t", func(context.Context) (string, error) { tools.add(); return "told", nil }, tool.Pure))
	hung, called := hang(scripted.HangForever)
	hung.When.Result = "t"
	b := w.node("b", gpu, hung, scripted.Rule{Reply: calls("t")})
	tm := team(planOf("x ?"), x)
	tm.Policy = quick
	r := a.run(tm)
	wait(t, "second call", called)
	c := w.node("c", gpu, scripted.Rule{When: scripted.When{Result: "t"}, Reply: textReply("{{.Last}}")}, scripted.Rule{Reply: calls("t")})
	b.kill()
	ans := w.answer(r)
	if ans.Text != "told" || ans.Restarts != 1 || ans.Steps != 3 || ans.Usage.Calls != 2 {
		t.Errorf("%+v", ans)
	}
	wantCount(t, c.model, 1)
	if tools.get() != 1 {
		t.Errorf("%d calls of the tool", tools.get())
	}
	if ev := a.until(messages.ActorFailed, "runs/r/x"); ev.Class != messages.Unavailable || !strings.Contains(ev.Error.Error(), "node b") {
		t.Errorf("%+v", ev.Error)
	}
}

func TestCrashOfAGuestIsRestartedByTheRunsPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.node("a", like{}), w.node("b", gpu, echo)
	x, n := crashing("x", "bad", 2)
	x.Pool = "gpu"
	ans := w.answer(a.run(team(planOf("x good", "x bad"), x)))
	if ans.Text != "bad" || ans.Restarts != 2 || n.get() != 3 {
		t.Errorf("%+v, %d", ans, n.get())
	}
	wantCount(t, b.model, 2)
	a.all()
	var waits []time.Duration
	for _, ev := range a.heard {
		if ev.Kind == messages.ActorBackingOff && strings.HasSuffix(ev.Path, "runs/r/x") {
			waits = append(waits, ev.Wait)
			if ev.Class != messages.Crashed || !strings.Contains(ev.Error.Stack, "crash_test.go") {
				t.Errorf("%+v, stack %q", ev, ev.Error.Stack)
			}
		}
	}
	if len(waits) != 2 || waits[0] < 80*time.Millisecond || waits[1] < 160*time.Millisecond {
		t.Errorf("waits %v", waits)
	}
	b.empty()
}

func TestPoisonOfAGuest(t *testing.T) {
	w := newWorld(t)
	a, b := w.node("a", like{}), w.node("b", gpu, echo)
	x, n := crashing("x", "bad", 1000)
	x.Pool = "gpu"
	tm := team(planOf("x good", "x bad"), x)
	tm.Policy = quick
	_, err := a.run(tm).Wait(w.ctx)
	wantClass(t, err, messages.Poison, "step 2 crashed its agent 3 times", "crashed on bad")
	e := messages.AsError(err, "", "")
	if !strings.Contains(e.Stack, "crash_test.go") || len(e.Others) != 3 || n.get() != 3 {
		t.Errorf("%d others, %d crashes, stack %q", len(e.Others), n.get(), e.Stack)
	}
	wantCount(t, b.model, 2)
	// What the plan saw is in the journal, under the plan: the writer is its home's.
	if got := w.kinds(); !slices.Contains(got, "answered plan 2") {
		t.Errorf("%q", got)
	}
	b.empty()
}

// A plan that goes on from a member's failure does so again when it is resumed.
func TestFailureOfAGuestIsReadFromTheJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.node("a", like{})
	w.node("b", gpu, echo)
	x, n := crashing("x", "bad", 1000)
	x.Pool = "gpu"
	p := actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		if _, err := s.Ask(ctx, "x", "bad"); messages.ClassOf(err) != messages.Poison {
			return messages.Answer{Text: "not poison"}, nil
		}
		if err := s.Wait(ctx, 50*time.Millisecond); err != nil {
			return messages.Answer{}, err
		}
		return messages.Answer{Text: "without it"}, nil
	})
	tm := team(p, x)
	tm.Policy = quick
	r := a.run(tm)
	w.eventually("the wait", func() bool { return w.times("timer plan 2") == 1 })
	a.kill()
	a2 := w.node("a2", like{})
	wantText(t, w.answer(a2.run(tm)), "without it")
	if n.get() != 3 || w.times("answered plan 1") != 1 {
		t.Errorf("%d crashes, %q", n.get(), w.kinds())
	}
	_ = r
}

func TestDrainOfAHomeMovesTheMember(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	var tools count
	x := on("gpu", "x", fn("t", func(context.Context) (string, error) { tools.add(); return "told", nil }))
	hung, called := hang(scripted.HangForever)
	hung.Reply.ToolCalls = calls("t").ToolCalls
	b := w.node("b", gpu, hung)
	r := a.run(team(planOf("x ?"), x))
	wait(t, "call", called)
	c := w.node("c", gpu, scripted.Rule{When: scripted.When{Result: "t"}, Reply: textReply("{{.Last}}")})
	drained := b.drain(w.ctx)
	b.model.Release()
	ok(t, <-drained)
	if b.rt.Guests() != 0 {
		t.Error("drained, and a guest is there")
	}
	ans := w.answer(r)
	if ans.Text != "told" || ans.Restarts != 0 || ans.Steps != 3 {
		t.Errorf("%+v", ans)
	}
	wantCount(t, b.model, 1)
	wantCount(t, c.model, 1)
	if ev := a.until(messages.MemberMoves, ""); ev.Name != "b" || ev.Class != messages.Stopping {
		t.Errorf("%+v", ev)
	}
	if got := a.at("runs/r/x"); got.Total != 0 || got.LastFailure != nil {
		t.Errorf("it failed: %+v", got)
	}
}

// A drain whose time is up cuts the guest off and names it; it goes on elsewhere.
func TestDrainOfAHomeThatHangs(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	hung, called := hang(scripted.HangForever)
	b := w.node("b", gpu, hung)
	r := a.run(team(planOf("x ?"), on("gpu", "x")))
	wait(t, "call", called)
	w.node("c", gpu, echo)
	b.draining()
	short, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
	defer cancel()
	wantClass(t, b.rt.Drain(short), messages.Timeout, "r.x (x: step 1: model call 1)")
	if ans := w.answer(r); ans.Restarts != 0 {
		t.Errorf("%+v", ans)
	}
}

// The owner's drain lets the member end its step, and leaves the run resumable.
func TestDrainOfTheOwner(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	var tools count
	x := on("gpu", "x", fn("t", func(context.Context) (string, error) { tools.add(); return "told", nil }))
	hung, called := hang(scripted.HangForever)
	hung.Reply.ToolCalls = calls("t").ToolCalls
	hung.When.Result = "!"
	b := w.node("b", gpu, hung, echo)
	tm := team(planOf("x ?"), x)
	r := a.run(tm)
	wait(t, "call", called)
	drained := a.drain(w.ctx)
	w.eventually("the word to finish", func() bool { return slices.Contains(b.words(), "finish") })
	b.model.Release()
	ok(t, <-drained)
	_, err := r.Wait(w.ctx)
	wantClass(t, err, messages.Stopping, "resumed")
	if r.Ended() || w.times("model x 1") != 1 || tools.get() != 0 {
		t.Errorf("%q", w.kinds())
	}
	b.empty()
	a2 := w.node("a2", like{})
	if ans := w.answer(a2.run(tm)); ans.Text != "told" || ans.Journal != 1 || ans.Steps != 3 {
		t.Errorf("%+v", ans)
	}
}

func TestDrainWhileAMemberWaitsForANode(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	r := a.run(team(planOf("x ?"), on("gpu", "x")))
	a.until(messages.MemberWaits, "")
	ok(t, a.rt.Drain(w.ctx))
	_, err := r.Wait(w.ctx)
	wantClass(t, err, messages.Stopping, "resumed")
}

// The run's heir places the member anew; the old guest is fenced, and gone.
func TestRunIsTakenOverWhileAMemberLivesOnAThirdNode(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{true, false} {
		w := newWorld(t)
		a := w.node("a", like{})
		hung, called := hang(scripted.HangForever)
		hung.Reply.Text = "late"
		b := w.node("b", gpu, hung)
		tm := team(planOf("x ?"), on("gpu", "x"))
		a.run(tm)
		wait(t, "call", called)
		home := b
		if !same {
			home = w.node("d", gpu, echo)
			b.draining()
		}
		// Its lease goes on: b does not hear that its guest's owner is dead.
		close(a.dead)
		c := w.node("c", like{})
		r := c.run(tm)
		if same {
			b.until(messages.ActorStopped, "guests/r.x")
		} else {
			c.until(messages.MemberPlaced, "d")
		}
		b.model.Release()
		ans := w.answer(r)
		if ans.Steps != 1 || w.times("model x 1") != 1 || w.times("answered x 1") != 1 {
			t.Errorf("%+v, %q", ans, w.kinds())
		}
		b.empty()
		home.empty()
	}
}

// The member goes with its owner's lease.
func TestGuestOfADeadOwnerGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.node("a", like{})
	hung, called := hang(scripted.HangUntilCanceled)
	b := w.node("b", gpu, hung)
	a.run(team(planOf("x ?"), on("gpu", "x")))
	wait(t, "call", called)
	a.kill()
	b.empty()
}

func TestGuestGoesWhenItsOwnerIsSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clock := fakeClock()
	a := w.node("a", like{})
	hung, called := hang(scripted.HangUntilCanceled)
	b := w.node("b", like{pools: []string{"gpu"}, clock: clock}, hung)
	a.run(team(planOf("x ?"), on("gpu", "x")))
	wait(t, "call", called)
	clock.Advance(29 * time.Second)
	if b.rt.Guests() != 1 {
		t.Fatal("gone too early")
	}
	close(a.dead)
	w.eventually("gone", func() bool { clock.Advance(time.Second); return b.rt.Guests() == 0 })
}

// An owner keeps its guests as long as it wants them, and hears when one is lost.
func TestOwnerKeepsItsGuest(t *testing.T) {
	w := newWorld(t)
	clock := fakeClock()
	a := w.node("a", like{clock: clock})
	hung, called := hang(scripted.HangForever)
	hung.Reply.Text = "late"
	b := w.node("b", like{pools: []string{"gpu"}, clock: clock}, hung)
	tm := team(planOf("x ?"), on("gpu", "x"))
	tm.Policy = quick
	r := a.run(tm)
	w.eventually("a call", func() bool {
		select {
		case <-called:
			return true
		default:
			clock.Advance(time.Millisecond)
			return false
		}
	})
	for range 20 { // 100 s, a word every 5
		before := len(b.words())
		w.eventually("a word", func() bool { clock.Advance(time.Second); return len(b.words()) > before })
	}
	if b.rt.Guests() != 1 {
		t.Fatal("gone")
	}
	b.forget("r.x")
	w.eventually("a restart", func() bool { clock.Advance(time.Second); return a.at("runs/r/x").Total == 1 })
	b.model.Release()
	w.answer(r)
}

func TestMemberOfANestedTeamLivesElsewhere(t *testing.T) {
	w := newWorld(t)
	a, b := w.node("a", like{}, echo), w.node("b", gpu, echo)
	x, _ := crashing("x", "two", 1)
	x.Pool = "gpu"
	inner := actors.Team{Name: "inner", Plan: planOf("near one", "x two"), Members: []actors.Member{agent("near"), x}, Policy: quick}
	ans := w.answer(a.run(team(planOf("inner ?"), inner)))
	if ans.Text != "two" || ans.Steps != 2 || ans.Usage.Calls != 2 || ans.Restarts != 1 {
		t.Errorf("%+v", ans)
	}
	wantCount(t, b.model, 1)
	if !slices.Contains(w.kinds(), "model inner/x 1.2") {
		t.Errorf("%q", w.kinds())
	}
	b.empty()
}

func TestToolThatANodeLends(t *testing.T) {
	lent := func(by string) tool.Tool {
		return fn("render", func(context.Context) (string, error) { return "by " + by, nil })
	}
	x := agent("x")
	x.Uses = []string{"render"}
	w := newWorld(t)
	a, b := w.node("a", like{}, used("render")...), w.node("b", like{tools: []tool.Tool{lent("b")}}, used("render")...)
	wantText(t, w.answer(a.run(team(planOf("x ?"), x))), "[by b]")
	wantCount(t, b.model, 2)

	// A node that has it is the member's home itself.
	w = newWorld(t)
	a = w.node("a", like{tools: []tool.Tool{lent("a")}}, used("render")...)
	w.node("b", like{tools: []tool.Tool{lent("b")}}, used("render")...)
	wantText(t, w.answer(a.run(team(planOf("x ?"), x))), "[by a]")
	wantCount(t, a.model, 2)
}

func TestUnsafeCallOnADeadHomeWaitsForAPerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.node("a", like{})
	c := newCut()
	tm := team(planOf("x ?"), on("gpu", "x", c.tool()))
	tm.Policy = quick
	b := w.node("b", gpu, used("pay")...)
	r := a.run(tm)
	wait(t, "call", c.called)
	d := w.node("d", gpu, used("pay")...)
	b.kill()
	ev := d.until(messages.RunWaits, "pay")
	if ev.Class != messages.Waiting || ev.Run != "r" {
		t.Errorf("%+v", ev)
	}
	ok(t, d.Send(w.ctx, "r", "x", messages.Envelope{Run: "r", Body: &messages.Resolve{Run: "r", Writer: "x", Step: "1", Output: "paid by hand"}}))
	wantText(t, w.answer(r), "[paid by hand]")
	if c.n.get() != 1 {
		t.Errorf("%d calls", c.n.get())
	}
	wantCount(t, d.model, 1)
}

func TestCanceledRunTakesItsGuestsAlong(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	hung, called := hang(scripted.HangUntilCanceled)
	b := w.node("b", gpu, hung)
	r := a.run(team(planOf("x ?"), on("gpu", "x")))
	wait(t, "call", called)
	ok(t, a.Send(w.ctx, "r", "plan", messages.Envelope{Run: "r", Body: &messages.Cancel{Run: "r", Reason: "enough"}}))
	_, err := r.Wait(w.ctx)
	wantClass(t, err, messages.Canceled, "enough")
	b.empty()
}

// A node whose lease is over lets its guests go: their owner has placed them anew.
func TestFencedHome(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	hung, called := hang(scripted.HangUntilCanceled)
	b := w.node("b", gpu, hung)
	tm := team(planOf("x ?"), on("gpu", "x"))
	tm.Policy = quick
	r := a.run(tm)
	wait(t, "call", called)
	w.node("c", gpu, echo)
	b.expire()
	b.rt.Fence(messages.Errorf(messages.Fenced, "b", "the lease is over"))
	b.empty()
	w.answer(r)
}

func TestWordsAboutGuests(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	hung, called := hang(scripted.HangUntilCanceled)
	b := w.node("b", like{pools: []string{"gpu"}, room: 1}, hung)
	tm := team(planOf("x ?"), on("gpu", "x"), on("gpu", "y"))
	w.team = tm
	plan, err := a.Claim(w.ctx, "r", messages.PlanWriter, messages.Claim{Node: "a", Epoch: a.info.Epoch})
	ok(t, err)
	task := messages.Task{ID: "r", Team: "team", Prompt: "?"}
	_, err = plan.Append(w.ctx, "", &messages.Begun{Task: task})
	ok(t, err)
	x := messages.Place{Owner: a.info.Owner(), Task: task, Member: "x", Incarnation: 2}
	with := func(change func(p *messages.Place)) messages.Place { p := x; change(&p); return p }
	known := with(func(p *messages.Place) { p.Known = true })
	wantClass(t, a.Place(w.ctx, "b", known), messages.Unavailable, "does not live here")
	ok(t, a.Place(w.ctx, "b", with(func(p *messages.Place) { p.Leave = true })))
	wantClass(t, a.Place(w.ctx, "b", with(func(p *messages.Place) { p.Member = "z" })), messages.Invalid, `"z"`)
	wantClass(t, a.Place(w.ctx, "b", with(func(p *messages.Place) { p.Owner = "other~1" })), messages.Fenced)
	if b.rt.Guests() != 0 {
		t.Fatal("a guest that was refused is there")
	}
	ok(t, a.Place(w.ctx, "b", x))
	ok(t, a.Place(w.ctx, "b", x))
	ok(t, a.Place(w.ctx, "b", known))
	wantClass(t, a.Place(w.ctx, "b", with(func(p *messages.Place) { p.Incarnation = 1 })), messages.Unavailable, "anew")
	wantClass(t, a.Place(w.ctx, "b", with(func(p *messages.Place) { p.Member = "y" })), messages.Throttled, "full")
	b.until(messages.ActorStarted, "guests/r.x/x")
	ok(t, a.Place(w.ctx, "b", with(func(p *messages.Place) { p.Incarnation = 3 })))
	b.until(messages.ActorStopped, "guests/r.x")
	wantClass(t, a.Place(w.ctx, "b", known), messages.Unavailable)
	ok(t, a.Place(w.ctx, "b", with(func(p *messages.Place) { p.Incarnation, p.Leave = 3, true })))
	b.empty()
	select {
	case <-called:
		t.Error("nobody asked")
	default:
	}
}

func TestCheckOfWhereAMemberLives(t *testing.T) {
	a := func(change func(a *actors.Agent)) actors.Agent { a := agent("x"); change(&a); return a }
	ext := func(change func(a *actors.Agent)) actors.Agent {
		a := actors.Agent{Name: "x", External: "translator"}
		change(&a)
		return a
	}
	for _, good := range []actors.Agent{
		a(func(a *actors.Agent) { a.Pool, a.Uses = "gpu", []string{"render"} }),
		ext(func(a *actors.Agent) { a.Timeout, a.Restart = time.Second, supervisor.Transient }),
	} {
		ok(t, good.Check())
	}
	for want, bad := range map[string]actors.Agent{
		"pool":                     a(func(a *actors.Agent) { a.Pool = "g p u" }),
		"uses":                     a(func(a *actors.Agent) { a.Uses = []string{"a.b"} }),
		"uses: render":             a(func(a *actors.Agent) { a.Uses = []string{"render", "render"} }),
		"uses: t":                  a(func(a *actors.Agent) { a.Uses, a.Tools = []string{"t"}, []tool.Tool{fn("t", nil2)} }),
		"external":                 ext(func(a *actors.Agent) { a.External = "trans lator" }),
		"model is not allowed":     ext(func(a *actors.Agent) { a.Model = "m" }),
		"tools is not allowed":     ext(func(a *actors.Agent) { a.Tools = []tool.Tool{fn("t", nil2)} }),
		"pool is not allowed":      ext(func(a *actors.Agent) { a.Pool = "gpu" }),
		"uses is not allowed":      ext(func(a *actors.Agent) { a.Uses = []string{"render"} }),
		"max_steps is not allowed": ext(func(a *actors.Agent) { a.MaxSteps = 3 }),
		"role is not allowed":      ext(func(a *actors.Agent) { a.Role = "a translator" }),
		"timeout":                  ext(func(a *actors.Agent) { a.Timeout = -1 }),
	} {
		wantClass(t, bad.Check(), messages.Invalid, `"x"`, want)
	}
}

// An owner that is taken for dead, and is woken, places its member again: that
// is refused, and its heir's guest lives on.
func TestAnOldOwnerTakesNoGuestFromItsHeir(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	rule, called := hang(scripted.HangForever)
	rule.Reply.Text = "late"
	b := w.node("b", gpu, rule)
	r := a.run(team(planOf("x ?"), on("gpu", "x")))
	wait(t, "call", called)
	p := messages.Place{Owner: "old~1", Task: messages.Task{ID: "r", Team: "team"}, Member: "x", Incarnation: 7}
	err := b.rt.Host(w.ctx, p, func() (actors.Member, error) { return nil, messages.Errorf(messages.Fenced, "r", "it is another's") })
	wantClass(t, err, messages.Fenced)
	p.Owner, p.Incarnation, p.Known = a.info.Owner(), 1, true
	ok(t, b.rt.Host(w.ctx, p, nil))
	b.model.Release()
	wantText(t, w.answer(r), "late")
	b.empty()
}

// A guest that waits for the end of its step, on a node that is drained, goes
// when its owner is lost.
func TestOwnerIsLostWhileItsGuestIsDrained(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", like{})
	rule, called := hang(scripted.HangForever)
	b := w.node("b", gpu, rule)
	a.run(team(planOf("x ?"), on("gpu", "x")))
	wait(t, "call", called)
	drained := b.drain(w.ctx)
	a.kill()
	ok(t, <-drained)
	b.empty()
}
