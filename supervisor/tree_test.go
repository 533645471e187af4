package supervisor_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// speaker reports what it is doing.
type speaker struct {
	probe
	report func() messages.Status
}

func (s speaker) Report() messages.Status { return s.report() }

func TestTheTreeShowsWhatEachActorIsDoing(t *testing.T) {
	k := newKit(t, supervisor.Config{Name: "node1", Policy: supervisor.Policy{
		OnClass: map[messages.Class]supervisor.Directive{messages.Poison: supervisor.DoQuarantine}}})
	began := k.clock.Now()
	spawn := func(name string, report func() messages.Status) supervisor.Ref {
		return k.spawn(supervisor.Ref{}, supervisor.Spec{Name: name, Kind: "agent", New: func() (supervisor.Actor, error) {
			return speaker{report: report}, nil
		}})
	}
	until := began.Add(time.Hour)
	spawn("parked", func() messages.Status {
		return messages.Status{State: messages.Parked, Step: "waits for a breaker", Until: until, Detail: map[string]string{"model": "m"}}
	})
	looked := spawn("looked", func() messages.Status { panic("in Report") })
	gone := spawn("gone", func() messages.Status { runtime.Goexit(); return messages.Status{} })
	failed, bad, busy := k.probe(supervisor.Ref{}, "failed"), k.probe(supervisor.Ref{}, "bad"), k.probe(supervisor.Ref{}, "busy")
	k.probe(failed, "below")
	_ = k.panic(failed)
	k.event(messages.ActorBackingOff, "node1/failed")
	_ = k.fail(bad, messages.Poison)
	k.event(messages.ActorQuarantined, "node1/bad")
	k.block(busy)
	for range 3 {
		busy.Tell("x")
	}

	tree := k.sys.Tree(k.ctx, supervisor.TreeOptions{Wait: 2 * time.Second})
	if tree.Name != "node1" || tree.Kind != "node" || tree.State != messages.Running || !tree.Since.Equal(began) {
		t.Fatalf("%+v", tree)
	}
	nodes := map[string]messages.TreeNode{}
	for _, n := range tree.Children {
		nodes[n.Name] = n
	}
	if n := nodes["parked"]; n.State != messages.Parked || n.Step != "waits for a breaker" || !n.Until.Equal(until) || n.Detail["model"] != "m" || n.Kind != "agent" {
		t.Errorf("%+v", n)
	}
	if n := nodes["failed"]; n.State != messages.BackingOff || n.Restarts != 1 || n.LastFailure.Class != messages.Crashed ||
		!n.FailedAt.Equal(began) || !n.Until.Equal(began.Add(100*time.Millisecond)) || len(n.Children) != 1 {
		t.Errorf("%+v", n)
	}
	if n := nodes["bad"]; n.State != messages.Quarantined || n.LastFailure.Class != messages.Poison {
		t.Errorf("%+v", n)
	}
	if n := nodes["busy"]; n.State != messages.Unresponsive || n.Mailbox != 3 {
		t.Errorf("%+v", n)
	}
	for _, name := range []string{"looked", "gone"} { // looking harms nobody
		if n := nodes[name]; n.Detail["report"] == "" || n.LastFailure != nil {
			t.Errorf("%+v", n)
		}
	}
	k.alive(looked)
	k.alive(gone)
	if n := k.sys.Tree(k.ctx, supervisor.TreeOptions{Depth: 1, Wait: 2 * time.Second}); len(n.Children) != 6 || len(n.Children[3].Children) != 0 {
		t.Errorf("%+v", n)
	}
	if n := k.node(failed); n.Name != "node1/failed" || n.State != messages.BackingOff || n.Restarts != 1 {
		t.Errorf("%+v", n)
	}
}

func TestATreeOfManyIsBounded(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	p := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p"})
	k.in(p, func(c *supervisor.Context) {
		for i := range 10_000 {
			if _, err := c.Spawn(supervisor.Spec{Name: fmt.Sprint(i), New: newProbe}); err != nil {
				t.Fatal(err)
			}
		}
	})
	n := k.sys.TreeOf(k.ctx, p, supervisor.TreeOptions{Wait: 5 * time.Second})
	if len(n.Children) != 1000 || n.Detail["more"] != "9000" || n.Children[999].Name != "999" || n.Children[999].State != messages.Idle {
		t.Fatalf("%d children, %v", len(n.Children), n.Detail)
	}
	n = k.sys.TreeOf(k.ctx, p, supervisor.TreeOptions{Children: 10, Wait: 5 * time.Second})
	if len(n.Children) != 10 || n.Detail["more"] != "9990" {
		t.Fatalf("%d children, %v", len(n.Children), n.Detail)
	}
}
