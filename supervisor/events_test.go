package supervisor_test

import (
	"sync"
	"testing"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

func TestASlowSubscriberBlocksNobodyAndLearnsWhatItMissed(t *testing.T) {
	var events supervisor.Events
	slow, picky := events.Subscribe(10, nil), events.Subscribe(1000, func(ev messages.Event) bool { return ev.Count == 7 })
	const emitters, each = 8, 1000
	var wg sync.WaitGroup
	for range emitters {
		wg.Go(func() {
			for i := range each {
				events.Emit(messages.Event{Kind: messages.ActorFailed, Count: i})
			}
		})
	}
	wg.Wait() // nobody reads: that emitting ends is the point
	if n := slow.Dropped(); n != emitters*each-10 {
		t.Fatal(n)
	}
	read, missed := 0, 0
	take := func(ev messages.Event) {
		if ev.Kind == messages.EventsDropped {
			missed += ev.Count
		} else {
			read++
		}
	}
	for range 10 {
		take(<-slow.C)
	}
	events.Emit(messages.Event{Kind: messages.ActorFailed})
	slow.Close()
	slow.Close()
	for ev := range slow.C {
		take(ev)
	}
	if read != 11 || missed != emitters*each-10 {
		t.Fatal(read, missed)
	}
	if n := len(picky.C); n != emitters {
		t.Fatal(n)
	}
	picky.Close()
	if events.Wanted() {
		t.Fatal("nobody listens, and events are wanted")
	}
}

func TestDropsAreReportedAtCloseToo(t *testing.T) {
	var events supervisor.Events
	s := events.Subscribe(1, nil)
	for range 3 {
		events.Emit(messages.Event{Kind: messages.ActorFailed})
	}
	<-s.C
	s.Close()
	if ev := <-s.C; ev.Kind != messages.EventsDropped || ev.Count != 2 {
		t.Fatalf("%+v", ev)
	}
}
