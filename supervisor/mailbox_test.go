package supervisor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

// ear is an actor.MessageInvoker that notes what it is handed.
type ear struct{ got chan string }

func (e ear) InvokeSystemMessage(m any)  { e.got <- fmt.Sprintf("%T", m) }
func (e ear) InvokeUserMessage(m any)    { e.got <- fmt.Sprint(m) }
func (e ear) EscalateFailure(r, msg any) { e.got <- fmt.Sprint(r) }

func newBox(t *testing.T) (*mailbox, chan string) {
	d := newDispatcher()
	t.Cleanup(d.close)
	c := &cell{sys: &System{dispatch: d}, spec: Spec{Name: "x"}}
	c.box.cell = c
	return &c.box, make(chan string, 100)
}

func want(t *testing.T, got chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		if g := <-got; g != w {
			t.Fatalf("got %s, want %s", g, w)
		}
	}
}

// A name is registered before its mailbox is ready, and others may send to it.
func TestNothingIsHandledBeforeStarted(t *testing.T) {
	m, got := newBox(t)
	m.PostUserMessage("1")
	m.RegisterHandlers(ear{got}, nil)
	m.PostUserMessage("2")
	m.PostUserMessage(&urgent{})
	m.PostSystemMessage(&actor.Started{})
	m.Start()
	want(t, got, "*actor.Started", "1", "2", "&{<nil>}")
}

// protoactor would let the restart undo the stop, and the parent wait for ever.
func TestARestartNeverOvertakesAStop(t *testing.T) {
	m, got := newBox(t)
	m.PostSystemMessage(&actor.Started{})
	m.PostSystemMessage(&actor.Stop{})
	m.renew()
	m.PostSystemMessage(&actor.Terminated{})
	m.RegisterHandlers(ear{got}, nil)
	m.Start()
	want(t, got, "*actor.Started", "*actor.Stop", "*actor.Terminated")
	m.end()
	m.renew()
	m.PostSystemMessage(&actor.Restart{})
	if n := m.system.len(); n != 0 {
		t.Fatal(n)
	}
}

// A resume that was on its way does not open a mailbox that is held.
func TestAStaleResumeDoesNotOpenAHeldMailbox(t *testing.T) {
	m, got := newBox(t)
	m.RegisterHandlers(ear{got}, nil)
	m.PostSystemMessage(&actor.Started{})
	want(t, got, "*actor.Started")
	m.hold()
	m.PostUserMessage("user")
	m.PostSystemMessage(resumeMessage)
	m.PostUserMessage(&urgent{})
	want(t, got, "&{<nil>}")
	m.renew()
	want(t, got, "*actor.Restart")
	m.PostSystemMessage(resumeMessage)
	want(t, got, "user")
}

func TestFIFO(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var q fifo
	var model []int
	next, highest := 0, 0
	for i := range 200_000 {
		if n := 100 * (i / 20_000 % 3); rng.IntN(200) < 100-n/4+20*(1-i/40_000%3) || len(model) == 0 {
			q.push(next)
			model = append(model, next)
			next++
		} else {
			if got := q.pop(); got != model[0] {
				t.Fatalf("step %d: got %v, want %d", i, got, model[0])
			}
			model = model[1:]
		}
		if q.len() != len(model) {
			t.Fatal(q.len(), len(model))
		}
		highest = max(highest, q.len())
	}
	t.Log("up to", highest)

	// What a burst took is given back though the queue never runs empty.
	q = fifo{}
	for i := range 20_000 {
		q.push(i)
	}
	for q.len() > 5 {
		q.pop()
	}
	for i := range 40_000 {
		q.push(i)
		q.pop()
	}
	if cap(q.items) > 64 {
		t.Fatal(cap(q.items), "kept for 5 messages")
	}
	if q.head > 0 && slices.ContainsFunc(q.items[:q.head], func(v any) bool { return v != nil }) {
		t.Fatal("keeps what was taken alive")
	}
}
