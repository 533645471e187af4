package supervisor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

func TestSmoke(t *testing.T) {
	sys, err := supervisor.NewSystem(supervisor.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sub := sys.Events().Subscribe(100, nil)
	ref, err := sys.Spawn(ctx, supervisor.Ref{}, supervisor.Spec{Name: "a", Kind: "x", New: func() (supervisor.Actor, error) {
		return supervisor.ActorFunc(func(c *supervisor.Context, m any) error {
			switch m := m.(type) {
			case string:
				if m == "boom" {
					panic(m)
				}
				c.Reply("re " + m)
			}
			return nil
		}), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := supervisor.Ask[string](ctx, ref, "hi")
	t.Log(s, err)
	_, err = supervisor.Ask[string](ctx, ref, "boom")
	t.Log(err)
	if !errors.Is(err, messages.Crashed) {
		t.Fatal(err)
	}
	s, err = supervisor.Ask[string](ctx, ref, "hi again")
	t.Log(s, err)
	t.Logf("%+v", sys.Tree(ctx, supervisor.TreeOptions{}))
	if err := sys.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = supervisor.Ask[string](ctx, ref, "hi again")
	t.Log(err)
	sub.Close()
	for e := range sub.C {
		t.Log(e.Kind, e.Path, e.Class, e.Attempt, e.Wait)
	}
}
