package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
)

// twoBuses are the buses of two nodes on one server.
func twoBuses(t *testing.T) (here, there *bus) {
	t.Helper()
	url, _ := listen(t, t.TempDir(), freePort(t))
	here, there = newBus(dialURL(t, url)), newBus(dialURL(t, url))
	t.Cleanup(func() { here.close(); there.close() })
	return here, there
}

func ask(step string) messages.Envelope {
	return messages.Envelope{Run: "r1", Step: step, Body: &messages.Ask{Step: step, From: "plan", To: "press/historian", Prompt: "why?"}}
}

func TestBusReachesAMemberOnAnotherNode(t *testing.T) {
	here, there := twoBuses(t)
	ctx := testCtx(t)
	const n = 1000
	got := make(chan messages.Envelope, n)
	stop := must(there.Serve("r1", "press/historian", func(e messages.Envelope) { got <- e }))(t)
	for i := range n {
		ok(t, here.Send(ctx, "r1", "press/historian", ask(fmt.Sprint(i))))
		if len(got) != i+1 {
			t.Fatalf("Send %d returned before the message was handed over", i)
		}
	}
	for i := range n {
		if e := <-got; e.Step != fmt.Sprint(i) || e.Body.(*messages.Ask).Prompt != "why?" {
			t.Fatalf("message %d: %+v", i, e)
		}
	}
	stop()
	start := time.Now()
	err := here.Send(ctx, "r1", "press/historian", ask("late"))
	wantClass(t, err, messages.Unavailable, "covey.bus.r1.press.historian")
	if d := time.Since(start); d > 500*time.Millisecond {
		t.Errorf("nobody there took %v", d)
	}
	if len(got) != 0 {
		t.Error("a message after stop")
	}
}

func TestBusRefusals(t *testing.T) {
	here, there := twoBuses(t)
	ctx := testCtx(t)
	wantClass(t, here.Send(ctx, "r1", "a.b", ask("1")), messages.Invalid, "a.b")
	_, err := here.Serve("r1", ">", nil)
	wantClass(t, err, messages.Invalid, ">")
	defer must(there.Serve("r1", "m", func(messages.Envelope) { t.Error("handed over") }))(t)()

	// What the receiving node cannot read comes back as its error.
	m := nats.NewMsg("covey.bus.r1.m")
	m.Header[messages.HeaderVersion] = []string{"99"}
	r := must(here.nc.RequestMsgWithContext(ctx, m))(t)
	err = receipt(r.Data, m.Subject)
	wantClass(t, err, messages.Unavailable, "unknown schema version", "99")

	err = here.Send(ctx, "r1", "m", messages.Envelope{Body: &messages.Ask{Prompt: string(make([]byte, 2<<20))}})
	wantClass(t, err, messages.Invalid, "too large")
	there.close()
	_, err = there.Serve("r1", "x", nil)
	wantClass(t, err, messages.Stopping)
}

// A receipt that is lost is asked for again: the message arrives twice.
func TestBusSendsAgainWithoutAReceipt(t *testing.T) {
	t.Parallel()
	here, there := twoBuses(t)
	n := 0
	sub := must(there.nc.Subscribe("covey.bus.r1.m", func(m *nats.Msg) {
		if n++; n == 2 {
			_ = m.Respond([]byte(busReceipt))
		}
	}))(t)
	defer func() { _ = sub.Unsubscribe() }()
	ok(t, there.nc.Flush())
	ok(t, here.Send(testCtx(t), "r1", "m", ask("1")))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := here.Send(ctx, "r1", "m", ask("2"))
	wantClass(t, err, messages.Timeout)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestBusHasNoGoroutineForEachMember(t *testing.T) {
	here, _ := twoBuses(t)
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	const n = 2000
	for i := range n {
		stop := must(here.Serve("r1", fmt.Sprint("m", i), func(messages.Envelope) { wg.Done() }))(t)
		defer stop()
	}
	if d := runtime.NumGoroutine() - before; d > 5 {
		t.Errorf("%d more goroutines for %d members", d, n)
	}
	wg.Add(n)
	ctx := testCtx(t)
	for i := range n {
		ok(t, here.Send(ctx, "r1", fmt.Sprint("m", i), ask("1")))
	}
	wg.Wait()
}
