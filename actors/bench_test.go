package actors_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/supervisor"
)

// BenchmarkStep is a whole run of many steps with a model that answers at once.
// A step is three records (asked, model, answered) and two messages (ask, reply).
// The metric x-publish compares it with one publish to JetStream.
func BenchmarkStep(b *testing.B) {
	publish := rawPublish(b)
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n, "-steps"), func(b *testing.B) {
			k := newKit(b, says("ok"))
			k.sub.Close()
			var asks []string
			for i := range n {
				asks = append(asks, fmt.Sprint("a ", i))
			}
			tm := team(planOf(asks...), agent("a"))
			for b.Loop() {
				if _, err := k.Ask(context.Background(), tm, "?"); err != nil {
					b.Fatal(err)
				}
			}
			step := b.Elapsed() / time.Duration(b.N*n)
			b.ReportMetric(float64(step.Nanoseconds())/1e3, "µs/step")
			b.ReportMetric(float64(step)/float64(publish), "x-publish")
			b.ReportMetric(float64(publish.Nanoseconds())/1e3, "µs/publish")
		})
	}
}

// rawPublish is the median time of an acknowledged publish to a file stream, over
// an in-process connection.
func rawPublish(b *testing.B) time.Duration {
	b.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: b.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(limit) {
		b.Fatal("the server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "s", Subjects: []string{"s.>"}}); err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, 2000)
	data := make([]byte, 300)
	for i := range took {
		began := time.Now()
		if _, err := js.Publish(ctx, "s.x", data); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// BenchmarkRecovery is the time from a panic in an agent's turn to the same place
// in its next turn, restarted by its supervisor without a backoff.
func BenchmarkRecovery(b *testing.B) {
	const steps = 500
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		k := newKit(b, says("ok"))
		k.sub.Close()
		var asks []string
		for i := range steps {
			asks = append(asks, fmt.Sprint("a ", i))
		}
		a := agent("a")
		var crashed time.Time
		a.Validate = func(context.Context, string) error { // one turn at a time
			if crashed.IsZero() {
				crashed = time.Now()
				panic("as the benchmark asks")
			}
			took = append(took, time.Since(crashed))
			crashed = time.Time{}
			return nil
		}
		tm := team(planOf(asks...), a)
		tm.Policy = supervisor.Policy{Intensity: -1, Backoff: supervisor.Backoff{Initial: -1}}
		b.StartTimer()
		k.ask(tm, "?")
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "µs/recovery-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "µs/recovery-p99")
}

func idle(b *testing.B) (*supervisor.System, supervisor.Ref, *actors.Scope, context.Context) {
	b.Helper()
	sys, err := supervisor.NewSystem(supervisor.Config{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	b.Cleanup(func() {
		defer cancel()
		if err := sys.Stop(ctx); err != nil {
			b.Error(err)
		}
	})
	top, err := sys.Spawn(ctx, supervisor.Ref{}, supervisor.Spec{Name: "agents", Kind: "supervisor"})
	if err != nil {
		b.Fatal(err)
	}
	return sys, top, actors.NewScope(sys), ctx
}

func idleAgent(i int) actors.Agent {
	return actors.Agent{Name: fmt.Sprint("agent-", i), Role: "an expert in waiting", Model: "m"}
}

// BenchmarkSpawn is one agent's actor, spawned under a supervisor.
func BenchmarkSpawn(b *testing.B) {
	sys, top, scope, ctx := idle(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := sys.Spawn(ctx, top, actors.IdleAgent(scope, idleAgent(i))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdleAgents is the memory of agents that wait: 100,000, and as many as
// COVEY_BENCH_AGENTS says (1000000 needs some 2 GB).
func BenchmarkIdleAgents(b *testing.B) {
	counts := []int{100_000}
	var more int
	if _, err := fmt.Sscan(os.Getenv("COVEY_BENCH_AGENTS"), &more); err == nil && more > 0 {
		counts = append(counts, more)
	}
	for _, n := range counts {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				sys, top, scope, ctx := idle(b)
				before := inUse()
				var last supervisor.Ref
				for i := range n {
					var err error
					if last, err = sys.Spawn(ctx, top, actors.IdleAgent(scope, idleAgent(i))); err != nil {
						b.Fatal(err)
					}
				}
				sys.TreeOf(ctx, last, supervisor.TreeOptions{}) // the last has started
				b.ReportMetric(float64(inUse()-before)/float64(n), "B/agent")
				runtime.KeepAlive(sys)
			}
		})
	}
}

// inUse is the memory of the heap and the stacks.
func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
