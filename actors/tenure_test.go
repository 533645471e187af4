package actors_test

import (
	"context"
	"testing"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

// A process that was frozen for longer than its lease is woken in the middle of a
// turn, and nobody has told the runtime yet: nothing new is begun.
func TestNothingBeginsOnceTheLeaseIsOver(t *testing.T) {
	w := newWorld(t)
	hung, called := hang(scripted.HangForever)
	hung.Reply.ToolCalls = calls("t").ToolCalls
	a := w.node("a", like{}, hung)
	var tools count
	r := a.run(team(planOf("x ?"), agent("x", fn("t", func(context.Context) (string, error) { tools.add(); return "", nil }))))
	wait(t, "call", called)
	a.lapse(0)
	a.model.Release()
	_, err := r.Wait(w.ctx)
	wantClass(t, err, messages.Fenced, "lease is over")
	if tools.get() != 0 || r.Ended() || w.times("intent x 1") != 0 {
		t.Errorf("%d calls, %q", tools.get(), w.kinds())
	}
}

// A lease that ends while a run starts: nobody hears the fence, and the run does
// not go on in its name.
func TestLeaseEndsWhileARunStarts(t *testing.T) {
	w := newWorld(t)
	for asked := range 3 {
		a := w.node("a", like{}, echo)
		a.lapse(asked + 1)
		r, err := a.rt.Start(w.ctx, messages.Task{ID: "r", Team: "team", Prompt: "?"}, team(planOf("x ?"), agent("x")), "")
		if err != nil {
			wantClass(t, err, messages.Stopping, "no lease")
			continue
		}
		_, err = r.Wait(w.ctx)
		wantClass(t, err, messages.Fenced)
	}
	if w.times("model x 1") != 0 {
		t.Errorf("%q", w.kinds())
	}
}

func TestANodeWithoutALeaseTakesNoMember(t *testing.T) {
	w := newWorld(t)
	b := w.node("b", gpu, echo)
	b.lapse(0)
	err := b.rt.Host(w.ctx, messages.Place{Owner: "a~1", Task: messages.Task{ID: "r", Team: "team"}, Member: "x", Incarnation: 1},
		func() (actors.Member, error) { return team(nil, on("gpu", "x")), nil })
	wantClass(t, err, messages.Unavailable, "no lease")
	b.empty()
}

// A process is frozen between a tool's intent and the call, for longer than its
// neighbours wait, and woken: an unsafe tool is not called, wherever it was frozen.
func TestAnUnsafeToolIsNotCalledByWhoWasFrozen(t *testing.T) {
	for at := range 2 {
		w := newWorld(t)
		a := w.node("a", like{}, scripted.Rule{Reply: calls("t")})
		var tools, asked count
		a.frozen = func() error {
			if asked.add(); asked.get() > at {
				return messages.Errorf(messages.Fenced, "a", "its lease is over")
			}
			return nil
		}
		unsafe := tool.Must(tool.New("t", "", func(context.Context, struct{}) (string, error) { tools.add(); return "", nil }))
		r := a.run(team(planOf("x ?"), agent("x", unsafe)))
		_, err := r.Wait(w.ctx)
		wantClass(t, err, messages.Fenced, "a tool was not called", "its lease is over")
		if tools.get() != 0 || r.Ended() || w.times("intent x 1") != 1 || w.times("result x 1") != 0 {
			t.Errorf("%d calls, %q", tools.get(), w.kinds())
		}
	}
}
