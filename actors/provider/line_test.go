package provider_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// arrival is a call that comes a while after the one before it.
type arrival struct {
	after    time.Duration
	name     string
	priority int
	session  string
}

// order returns the names of calls in the order in which a queue of one place
// admits them, when the first holds it while the others come and each takes
// calls' time.
func order(t *testing.T, cfg provider.QueueConfig, calls time.Duration, all ...arrival) (string, []messages.Event) {
	t.Helper()
	var events sink
	cfg.Concurrency, cfg.Observe = 1, events.observe
	q := must(provider.NewQueue(cfg))
	g := newGate()
	m := q.Wrap(g)
	var wg sync.WaitGroup
	for _, a := range append([]arrival{{name: "first"}}, all...) {
		time.Sleep(a.after)
		wg.Go(func() {
			if _, err := provider.Call(t.Context(), m, &provider.Request{Key: a.name, Priority: a.priority, Session: a.session}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
	}
	for range len(all) + 1 {
		time.Sleep(calls)
		g.let <- struct{}{}
		synctest.Wait()
	}
	wg.Wait()
	close(g.begun)
	var names []string
	for n := range g.begun {
		names = append(names, n)
	}
	return strings.Join(names[1:], " "), events.events()
}

func TestQueuePriority(t *testing.T) {
	s := time.Second
	for _, tt := range []struct {
		name string
		cfg  provider.QueueConfig
		all  []arrival
		want string
	}{
		{"lower first, then first come", provider.QueueConfig{}, []arrival{
			{0, "c1", 2, ""}, {0, "a1", -1, ""}, {0, "b1", 0, ""}, {0, "c2", 2, ""}, {0, "a2", -1, ""}, {0, "b2", 0, ""},
		}, "a1 a2 b1 b2 c1 c2"},
		{"each ten seconds of waiting are a step", provider.QueueConfig{}, []arrival{
			{0, "old", 1, ""}, {9 * s, "at 9 s", 0, ""}, {2 * s, "at 11 s", 0, ""},
		}, "at 9 s old at 11 s"},
		{"a faster ageing", provider.QueueConfig{AgeEvery: s}, []arrival{
			{0, "old", 5, ""}, {4 * s, "at 4 s", 0, ""}, {2 * s, "at 6 s", 0, ""},
		}, "at 4 s old at 6 s"},
		{"no ageing", provider.QueueConfig{AgeEvery: -1}, []arrival{
			{0, "old", 1, ""}, {time.Hour, "new", 0, ""},
		}, "new old"},
		{"sessions take turns", provider.QueueConfig{}, []arrival{
			{0, "a1", 0, "a"}, {0, "a2", 0, "a"}, {0, "a3", 0, "a"}, {0, "a4", 0, "a"}, {s, "b1", 0, "b"}, {0, "b2", 0, "b"}, {s, "c1", 0, "c"},
		}, "a1 b1 c1 a2 b2 a3 a4"},
		{"only among equals", provider.QueueConfig{AgeEvery: -1}, []arrival{
			{0, "a1", 0, "a"}, {0, "a2", 0, "a"}, {0, "b1", 1, "b"}, {0, "b2", -1, "b"},
		}, "b2 a1 a2 b1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, events := order(t, tt.cfg, s, tt.all...)
				if got != tt.want {
					t.Errorf("order %s, want %s", got, tt.want)
				}
				if len(events) != len(tt.all) || events[0].Kind != messages.QueueWaited || events[0].Wait < s || events[0].Count != len(tt.all)-1 {
					t.Errorf("events %+v", events)
				}
			})
		})
	}
}

// A session with a thousand calls waiting does not hold up another, and no call
// of any priority starves while urgent ones keep coming.
func TestQueueNothingStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := must(provider.NewQueue(provider.QueueConfig{Concurrency: 1, Waiting: 5000}))
		m, _ := takes(time.Second)
		m = q.Wrap(m)
		done := make(chan time.Duration, 5000)
		send := func(session string, priority int) {
			start := time.Now()
			go func() {
				_, err := provider.Call(t.Context(), m, &provider.Request{Session: session, Priority: priority})
				if err != nil {
					t.Error(err)
				}
				if session == "other" || session == "low" {
					done <- time.Since(start)
				}
			}()
			synctest.Wait()
		}
		for range 1000 {
			send("greedy", 0)
		}
		send("other", 0)
		if took := <-done; took > 3*time.Second {
			t.Errorf("the other session waited %v behind a greedy one", took)
		}
		send("low", 9)
		for range 200 { // a fresh urgent call each second: more than there is room for
			send("urgent", 0)
			time.Sleep(time.Second)
		}
		took := <-done
		t.Logf("priority 9 behind a thousand of priority 0, with a new one each second, took %v", took)
		if took > 4*time.Minute {
			t.Errorf("the call of priority 9 waited %v", took)
		}
		time.Sleep(time.Hour)
		if q.Depth() != 0 || q.InFlight() != 0 {
			t.Errorf("%d wait, %d run", q.Depth(), q.InFlight())
		}
	})
}

func TestQueueRefusalIsToldAndOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events sink
		q := must(provider.NewQueue(provider.QueueConfig{Name: "m", Concurrency: 1, Waiting: -1, Observe: events.observe}))
		g := newGate()
		go func() { _, _ = provider.Call(t.Context(), q.Wrap(g), request) }()
		synctest.Wait()
		_, err := provider.Call(t.Context(), q.Wrap(g), &provider.Request{Session: "s", Kind: "chat"})
		classIs(t, err, messages.Unavailable)
		es := events.events()
		if len(es) != 1 || es[0].Kind != messages.QueueRefused || es[0].Session != "s" || es[0].Call != "chat" || es[0].Class != messages.Unavailable || es[0].Name != "m" {
			t.Errorf("events %+v", es)
		}
		close(g.let)

		off := must(provider.NewQueue(provider.QueueConfig{Concurrency: 1, Waiting: -1, Off: true}))
		m, _ := takes(time.Second)
		start := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _ = call(t, off.Wrap(m)) })
		}
		wg.Wait()
		if time.Since(start) != time.Second {
			t.Errorf("ten calls at once took %v", time.Since(start))
		}
	})
}

// Calls that come and go in any order and with any priority: none is lost, and
// the number that run never passes the limit.
func TestQueueMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := must(provider.NewQueue(provider.QueueConfig{Concurrency: 7}))
		m, most := takes(time.Millisecond)
		m = q.Wrap(m)
		var wg sync.WaitGroup
		for n := range 500 {
			wg.Go(func() {
				_, err := provider.Call(t.Context(), m, &provider.Request{Session: fmt.Sprint(n % 13), Priority: n % 5})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most() != 7 || q.Depth() != 0 || q.InFlight() != 0 {
			t.Errorf("%d at once, %d wait, %d run", most(), q.Depth(), q.InFlight())
		}
	})
}
