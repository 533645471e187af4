package supervisor_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

var seed = flag.Uint64("seed", 0, "of TestARandomTree; 0 takes one from the clock")

// TestARandomTree lets several goroutines fail, stop, spawn, release and look at
// actors of a random tree, and checks at the end that nothing was left hanging.
func TestARandomTree(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", s)
	for round := range uint64(6) {
		randomTree(t, rand.New(rand.NewPCG(s, round)))
	}
}

func randomSpec(rng *rand.Rand, name string, depth int) supervisor.Spec {
	pick := func(ds ...supervisor.Directive) supervisor.Directive { return ds[rng.IntN(len(ds))] }
	spec := supervisor.Spec{Name: name, New: newProbe, Policy: supervisor.Policy{
		Strategy:  []supervisor.Strategy{supervisor.OneForOne, supervisor.AllForOne, supervisor.RestForOne}[rng.IntN(3)],
		Backoff:   supervisor.Backoff{Initial: []time.Duration{-1, 100 * time.Microsecond, time.Millisecond}[rng.IntN(3)], Max: 2 * time.Millisecond},
		Intensity: []int{-1, 3, 30}[rng.IntN(3)],
		Within:    50 * time.Millisecond,
		Spent:     pick(supervisor.DoEscalate, supervisor.DoQuarantine),
		OnClass: map[messages.Class]supervisor.Directive{
			messages.Tool:   supervisor.DoResume,
			messages.Budget: pick(supervisor.DoRestart, supervisor.DoEscalate, supervisor.DoResume),
			messages.Poison: pick(supervisor.DoRestart, supervisor.DoQuarantine),
		},
	}}
	if depth > 0 {
		if rng.IntN(4) == 0 {
			spec.New = nil
		}
		for i := range 1 + rng.IntN(4) {
			spec.Children = append(spec.Children, randomSpec(rng, fmt.Sprint("k", i), depth-1))
		}
	}
	return spec
}

func randomTree(t *testing.T, rng *rand.Rand) {
	k := newKit(t, supervisor.Config{Clock: clockwork.NewRealClock(), Policy: supervisor.Policy{Spent: supervisor.DoQuarantine, Backoff: supervisor.Backoff{Initial: time.Millisecond}}})
	spec := randomSpec(rng, "top", 3)
	top, err := k.sys.Spawn(k.ctx, supervisor.Ref{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	k.settle(top, spec)
	var refs []supervisor.Ref
	var collect func(r supervisor.Ref, s supervisor.Spec)
	collect = func(r supervisor.Ref, s supervisor.Spec) {
		refs = append(refs, r)
		for _, c := range s.Children {
			collect(k.sys.At(r.Path()+"/"+c.Name), c)
		}
	}
	collect(top, spec)

	var wg sync.WaitGroup
	var asked, ended atomic.Int64
	for g := range 4 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), uint64(g)))
		wg.Go(func() {
			for i := range 300 {
				act(k, rng, refs[rng.IntN(len(refs))], fmt.Sprintf("x%d-%d", g, i), &asked, &ended)
			}
		})
	}
	wg.Wait()
	if asked.Load() != ended.Load() {
		t.Fatalf("%d asks, %d ended", asked.Load(), ended.Load())
	}
	k.settle(top, spec)
	if err := k.sys.Stop(k.ctx); err != nil {
		t.Fatal(err)
	}
}

// act does one random thing. Every ask must end well before the kit's limit.
func act(k *kit, rng *rand.Rand, r supervisor.Ref, name string, asked, ended *atomic.Int64) {
	ctx, cancel := context.WithTimeout(k.ctx, limit/2)
	defer cancel()
	ask := func(f do) {
		asked.Add(1)
		_, err := supervisor.Ask[any](ctx, r, f)
		if ctx.Err() != nil {
			k.Errorf("an ask of %s did not end: %v", r, err)
			return
		}
		ended.Add(1)
	}
	switch rng.IntN(12) {
	case 0, 1:
		ask(func(*supervisor.Context) error { panic("random") })
	case 2:
		ask(func(*supervisor.Context) error { runtime.Goexit(); return nil })
	case 3, 4:
		class := []messages.Class{messages.Tool, messages.Budget, messages.Poison}[rng.IntN(3)]
		ask(func(*supervisor.Context) error { return class })
	case 5:
		ask(func(c *supervisor.Context) error { c.Reply(1); c.Stop(); return nil })
	case 6:
		restart := []supervisor.Restart{supervisor.Transient, supervisor.Temporary}[rng.IntN(2)]
		if x, err := k.sys.Spawn(ctx, r, supervisor.Spec{Name: name, New: newProbe, Restart: restart}); err == nil {
			_ = k.sys.StopActor(ctx, x)
		}
	case 7:
		r.Release()
	case 8:
		k.sys.TreeOf(ctx, r, supervisor.TreeOptions{})
	case 9: // kept, and answered by work that may outlive the incarnation
		ask(func(c *supervisor.Context) error {
			asker := c.Asker()
			c.Go("answer", func(context.Context) any { asker.Answer(1); return nil })
			return nil
		})
	case 10: // kept and forgotten, but for the failure
		ask(func(c *supervisor.Context) error {
			c.Asker()
			c.Go("fail", func(context.Context) any { panic("random work") })
			return nil
		})
	default:
		ask(func(c *supervisor.Context) error { c.Reply(1); return nil })
	}
}

// settle waits until every actor of the spec answers, or a branch above it or
// itself is quarantined. Nothing else is allowed to last.
func (k *kit) settle(top supervisor.Ref, spec supervisor.Spec) {
	k.Helper()
	why := ""
	for k.ctx.Err() == nil {
		if why = unsettled(k.sys.TreeOf(k.ctx, top, supervisor.TreeOptions{Wait: 10 * time.Second}), spec); why == "" {
			return
		}
		runtime.Gosched()
	}
	k.Fatal("did not settle: ", why)
}

func unsettled(n messages.TreeNode, spec supervisor.Spec) string {
	switch n.State {
	case messages.Quarantined:
		return ""
	case messages.Idle, messages.Running:
	default:
		return fmt.Sprintf("%s is %s", n.Name, n.State)
	}
	for _, want := range spec.Children {
		found := false
		for _, c := range n.Children {
			if c.Name == want.Name {
				found = true
				if why := unsettled(c, want); why != "" {
					return n.Name + "/" + why
				}
			}
		}
		if !found {
			return n.Name + " lacks " + want.Name
		}
	}
	return ""
}
