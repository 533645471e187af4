package chaos

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	for seed := range uint64(200) {
		for _, p := range []Plan{
			{Seed: seed, For: 2 * time.Minute, Nodes: 3, Kinds: Kinds(), Most: 2, Rest: time.Second},
			{Seed: seed, For: 3 * time.Minute, Nodes: 3, Kinds: []Kind{Kill, Stop, Term, Partition}, Most: 1, Rest: 5 * time.Second},
			{Seed: seed, For: 10 * time.Second, Nodes: 1, Kinds: []Kind{Kill}, Most: 1},
		} {
			faults := p.Schedule()
			if !slices.Equal(faults, p.Schedule()) {
				t.Fatalf("seed %d gives two schedules", seed)
			}
			check(t, p, faults)
		}
	}
	a := Plan{Seed: 1, For: time.Minute, Nodes: 3, Kinds: Kinds(), Most: 2}
	b := a
	b.Seed = 2
	if slices.Equal(a.Schedule(), b.Schedule()) {
		t.Error("two seeds give one schedule")
	}
	if got := (Plan{For: time.Minute, Nodes: 3}).Schedule(); got != nil {
		t.Errorf("without kinds there are faults: %v", got)
	}
}

func check(t *testing.T, p Plan, faults []Fault) {
	t.Helper()
	seen := map[Kind]int{}
	for i, f := range faults {
		seen[f.Kind]++
		if f.Length <= 0 || f.end() > p.For || (f.Kind == NATS) != (f.Node == natsServer) || f.Node >= p.Nodes {
			t.Errorf("seed %d: %+v does not fit into %+v", p.Seed, f, p)
		}
		troubled := 0
		for j, g := range faults {
			if i == j || g.At > f.At || g.end()+p.Rest <= f.At {
				continue
			}
			if g.Node == f.Node {
				t.Errorf("seed %d: %v begins before %v is over", p.Seed, f, g)
			}
			if g.Node != natsServer {
				troubled++
			}
		}
		if f.Node != natsServer && troubled >= p.Most {
			t.Errorf("seed %d: at %v there are %d nodes in trouble already", p.Seed, f, troubled)
		}
	}
	if p.For >= 2*time.Minute {
		for _, k := range p.Kinds {
			if seen[k] < 2 {
				t.Errorf("seed %d: %d × %s in %s", p.Seed, seen[k], k, p.For)
			}
		}
	}
}

// The schedule of a seed that was printed must be the same in every version.
func ExamplePlan_Schedule() {
	for _, f := range (Plan{Seed: 42, For: 15 * time.Second, Nodes: 3, Kinds: Kinds(), Most: 2, Rest: time.Second}).Schedule() {
		fmt.Println(f.At, f)
	}
	// Output:
	// 2.357s kill -9 of node-3, started again after 450ms
	// 5.316s SIGTERM to the NATS server, started again after 190ms
	// 5.97s node-2 is cut off for 1.39s
	// 9.194s SIGTERM to node-2, started again 1.37s after its end
	// 11.568s SIGSTOP to node-2, SIGCONT after 3.43s
	// 14.625s node-3 is cut off for 380ms
}

func TestParseKinds(t *testing.T) {
	if got, err := ParseKinds(""); err != nil || !slices.Equal(got, Kinds()) {
		t.Error(got, err)
	}
	if got, err := ParseKinds("kill, stop,kill"); err != nil || !slices.Equal(got, []Kind{Kill, Stop}) {
		t.Error(got, err)
	}
	if _, err := ParseKinds("kill,flood"); err == nil || err.Error() != `fault: "flood" is not allowed: use kill, stop, term, nats, partition (invalid)` {
		t.Error(err)
	}
}
