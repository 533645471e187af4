package provider_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// gate is a model whose calls say when they have begun and wait to be let go.
type gate struct {
	begun chan string
	let   chan struct{}
}

func newGate() gate { return gate{make(chan string, 1000), make(chan struct{})} }

func (g gate) Stream(_ context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		g.begun <- req.Key
		<-g.let
		yield(provider.Chunk{Stop: messages.StopEnd}, nil)
	}
}

func keyed(n int) *provider.Request {
	return &provider.Request{Messages: request.Messages, Key: fmt.Sprint(n)}
}

func TestQueueOrderAndLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := must(provider.NewQueue(provider.QueueConfig{Concurrency: 2}))
		g := newGate()
		m := q.Wrap(g)
		var wg sync.WaitGroup
		for n := range 6 {
			wg.Go(func() {
				r, err := provider.Call(t.Context(), m, keyed(n))
				if err != nil || n >= 2 && r.Usage.Duration != time.Duration(n/2)*time.Second {
					t.Errorf("call %d: %+v, %v", n, r, err)
				}
			})
			synctest.Wait() // they come one after the other
		}
		for want := 4; want >= 0; want -= 2 {
			if q.InFlight() != 2 || q.Depth() != want {
				t.Errorf("%d run, %d wait, want 2 and %d", q.InFlight(), q.Depth(), want)
			}
			time.Sleep(time.Second)
			for range 2 {
				g.let <- struct{}{}
				synctest.Wait()
			}
		}
		wg.Wait()
		close(g.begun)
		var order []string
		for k := range g.begun {
			order = append(order, k)
		}
		if got := strings.Join(order, " "); got != "0 1 2 3 4 5" {
			t.Errorf("order %s", got)
		}
		if q.InFlight() != 0 || q.Depth() != 0 {
			t.Errorf("%d run, %d wait", q.InFlight(), q.Depth())
		}
	})
}

func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for waiting, want := range map[int]int{3: 3, -1: 0} {
			q := must(provider.NewQueue(provider.QueueConfig{Name: "m", Concurrency: 1, Waiting: waiting}))
			g := newGate()
			m := q.Wrap(g)
			for n := range want + 1 {
				go func() { _, _ = provider.Call(t.Context(), m, keyed(n)) }()
			}
			synctest.Wait()
			_, err := provider.Call(t.Context(), m, request)
			e := classIs(t, err, messages.Unavailable)
			if text := fmt.Sprintf("%d calls wait, the limit is %d, while 1 run", want, want); !strings.Contains(e.Error(), text) || e.Source != "m" {
				t.Errorf("error %v, want %q", e, text)
			}
			close(g.let)
			synctest.Wait()
		}
	})
}

func TestQueueCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := must(provider.NewQueue(provider.QueueConfig{Concurrency: 1}))
		g := newGate()
		m := q.Wrap(g)
		go func() { _, _ = provider.Call(t.Context(), m, keyed(0)) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 1)
		go func() { _, err := provider.Call(ctx, m, keyed(1)); errs <- err }()
		go func() { _, _ = provider.Call(t.Context(), m, keyed(2)) }()
		synctest.Wait()
		cancel()
		if err := <-errs; messages.ClassOf(err) != messages.Canceled || !errors.Is(err, context.Canceled) || q.Depth() != 1 {
			t.Errorf("error %v, %d wait", err, q.Depth())
		}
		late, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		_, err := provider.Call(late, m, keyed(3))
		classIs(t, err, messages.Timeout)
		close(g.let)
		synctest.Wait()
		if q.InFlight() != 0 || q.Depth() != 0 || len(g.begun) != 2 {
			t.Errorf("%d run, %d wait, %d began", q.InFlight(), q.Depth(), len(g.begun))
		}
	})
}

// Turns that come in the moment of a cancellation are passed on: no place is
// lost.
func TestQueueLosesNoPlace(t *testing.T) {
	q := must(provider.NewQueue(provider.QueueConfig{Concurrency: 2}))
	m, _ := play(fine)
	m = q.Wrap(m)
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			if n%2 == 0 {
				go cancel()
			}
			_, _ = provider.Call(ctx, m, request)
			cancel()
		})
	}
	wg.Wait()
	if q.InFlight() != 0 || q.Depth() != 0 {
		t.Errorf("%d run, %d wait", q.InFlight(), q.Depth())
	}
	if err := call(t, m); err != nil {
		t.Error(err)
	}
}

func TestQueueFreesAfterPanic(t *testing.T) {
	q := must(provider.NewQueue(provider.QueueConfig{Concurrency: 1}))
	func() {
		defer func() { _ = recover() }()
		_ = call(t, q.Wrap(provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] { panic("a bug") })))
	}()
	if q.InFlight() != 0 {
		t.Error("the place is lost")
	}
}
