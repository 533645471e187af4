package supervisor_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// Each benchmark runs beside raw protoactor-go doing the same:
//
//	go test -run '^$' -bench . -benchmem ./supervisor
//	COVEY_ACTORS=1000000 go test -run '^$' -bench Idle -benchtime 1x ./supervisor

func newBench(b *testing.B) *supervisor.System {
	sys, err := supervisor.NewSystem(supervisor.Config{Policy: instant})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := sys.Stop(ctx); err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	return sys
}

func spawnIn(b *testing.B, sys *supervisor.System, spec supervisor.Spec) supervisor.Ref {
	ref, err := sys.Spawn(context.Background(), supervisor.Ref{}, spec)
	if err != nil {
		b.Fatal(err)
	}
	return ref
}

// of makes an actor of a function, without state.
func of(f supervisor.ActorFunc) func() (supervisor.Actor, error) {
	return func() (supervisor.Actor, error) { return f, nil }
}

func rawSystem(b *testing.B) *actor.ActorSystem {
	b.ReportAllocs()
	return actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
}

var answer any = "answer"

func BenchmarkSpawn(b *testing.B) {
	b.Run("covey", func(b *testing.B) {
		sys := newBench(b)
		p := spawnIn(b, sys, supervisor.Spec{Name: "p", New: newProbe})
		done := make(chan struct{})
		b.ResetTimer()
		p.Tell(do(func(c *supervisor.Context) error {
			for i := range b.N {
				if _, err := c.Spawn(supervisor.Spec{Name: strconv.Itoa(i), New: newProbe}); err != nil {
					b.Error(err)
				}
			}
			close(done)
			return nil
		}))
		<-done
		b.StopTimer()
	})
	b.Run("covey-from-outside", func(b *testing.B) {
		sys := newBench(b)
		b.ResetTimer()
		for i := range b.N {
			spawnIn(b, sys, supervisor.Spec{Name: strconv.Itoa(i), New: newProbe})
		}
		b.StopTimer()
	})
	b.Run("protoactor", func(b *testing.B) {
		sys := rawSystem(b)
		done := make(chan struct{})
		props := actor.PropsFromFunc(func(actor.Context) {})
		p := sys.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if n, ok := c.Message().(int); ok {
				for range n {
					c.Spawn(props)
				}
				close(done)
			}
		}))
		b.ResetTimer()
		sys.Root.Send(p, b.N)
		<-done
	})
}

// BenchmarkRequest is a question and its answer between two actors.
func BenchmarkRequest(b *testing.B) {
	run := func(b *testing.B, listen bool) {
		sys := newBench(b)
		if listen {
			sub := sys.Events().Subscribe(1, nil)
			defer sub.Close()
		}
		z := spawnIn(b, sys, supervisor.Spec{Name: "z", New: of(func(c *supervisor.Context, _ any) error { c.Reply(answer); return nil })})
		n, done := b.N, make(chan struct{})
		a := spawnIn(b, sys, supervisor.Spec{Name: "a", New: of(func(c *supervisor.Context, _ any) error {
			if n--; n < 0 {
				close(done)
				return nil
			}
			c.Request(z, answer)
			return nil
		})})
		b.ResetTimer()
		a.Tell(answer)
		<-done
		b.StopTimer()
	}
	b.Run("covey", func(b *testing.B) { run(b, false) })
	b.Run("covey-listened-to", func(b *testing.B) { run(b, true) })
	b.Run("protoactor", func(b *testing.B) {
		sys := rawSystem(b)
		n, done := b.N, make(chan struct{})
		z := sys.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if _, ok := c.Message().(string); ok {
				c.Respond(answer)
			}
		}))
		a := sys.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if _, ok := c.Message().(string); !ok {
				return
			}
			if n--; n < 0 {
				close(done)
				return
			}
			c.Request(z, answer)
		}))
		b.ResetTimer()
		sys.Root.Send(a, answer)
		<-done
	})
}

// BenchmarkAsk is a question of a goroutine.
func BenchmarkAsk(b *testing.B) {
	b.Run("covey", func(b *testing.B) {
		sys := newBench(b)
		z := spawnIn(b, sys, supervisor.Spec{Name: "z", New: of(func(c *supervisor.Context, _ any) error { c.Reply(answer); return nil })})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		b.ResetTimer()
		for range b.N {
			if _, err := supervisor.Ask[string](ctx, z, answer); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
	})
	b.Run("covey-kept", func(b *testing.B) {
		sys := newBench(b)
		z := spawnIn(b, sys, supervisor.Spec{Name: "z", New: of(func(c *supervisor.Context, _ any) error { c.Asker().Answer(answer); return nil })})
		b.ResetTimer()
		for range b.N {
			if _, err := supervisor.Ask[string](context.Background(), z, answer); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
	})
	b.Run("protoactor", func(b *testing.B) {
		sys := rawSystem(b)
		z := sys.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if _, ok := c.Message().(string); ok {
				c.Respond(answer)
			}
		}))
		b.ResetTimer()
		for range b.N {
			if _, err := sys.Root.RequestFuture(z, answer, 5*time.Second).Result(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPanic is the time from a panic to the next message's handling.
func BenchmarkPanic(b *testing.B) {
	var thrown time.Time
	var total time.Duration
	report := func(b *testing.B) {
		b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/panic-to-next")
		total = 0
	}
	for _, name := range []string{"covey", "covey-error"} {
		b.Run(name, func(b *testing.B) {
			total = 0
			sys := newBench(b)
			next := make(chan struct{})
			a := spawnIn(b, sys, supervisor.Spec{Name: "a", New: of(func(_ *supervisor.Context, msg any) error {
				if msg == "boom" {
					thrown = time.Now()
					if name == "covey" {
						panic("boom")
					}
					return messages.Crashed
				}
				total += time.Since(thrown)
				next <- struct{}{}
				return nil
			})})
			b.ResetTimer()
			for range b.N {
				a.Tell("boom")
				a.Tell("next")
				<-next
			}
			b.StopTimer()
			report(b)
		})
	}
	b.Run("protoactor", func(b *testing.B) {
		total = 0
		sys := rawSystem(b)
		next, pid := make(chan struct{}), make(chan *actor.PID, 1)
		sys.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if _, ok := c.Message().(*actor.Started); ok {
				pid <- c.Spawn(actor.PropsFromFunc(func(c actor.Context) {
					switch c.Message() {
					case "boom":
						thrown = time.Now()
						panic("boom")
					case "next":
						total += time.Since(thrown)
						next <- struct{}{}
					}
				}))
			}
		}, actor.WithSupervisor(actor.NewRestartingStrategy())))
		a := <-pid
		b.ResetTimer()
		for range b.N {
			sys.Root.Send(a, "boom")
			sys.Root.Send(a, "next")
			<-next
		}
		b.StopTimer()
		report(b)
	})
}

// BenchmarkRestartAfter10000 is a restart of an actor that has had 10,000.
func BenchmarkRestartAfter10000(b *testing.B) {
	sys := newBench(b)
	a := spawnIn(b, sys, supervisor.Spec{Name: "a", New: of(func(_ *supervisor.Context, msg any) error { return messages.Budget })})
	fail := func() {
		if _, err := supervisor.Ask[any](context.Background(), a, answer); err == nil {
			b.Fatal("no failure")
		}
	}
	for range 10_000 {
		fail()
	}
	b.ResetTimer()
	for range b.N {
		fail()
	}
	b.StopTimer()
}

// BenchmarkIdle is the memory of an actor that waits. COVEY_ACTORS says how
// many; 100,000 if not set.
func BenchmarkIdle(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("COVEY_ACTORS"))
	if err != nil {
		n = 100_000
	}
	measure := func(b *testing.B, spawn func(started *atomic.Int64)) {
		for range b.N {
			var started atomic.Int64
			before := resident()
			begin := time.Now()
			spawn(&started)
			for started.Load() < int64(n) {
				time.Sleep(time.Millisecond)
			}
			b.ReportMetric(float64(time.Since(begin).Nanoseconds())/float64(n), "ns/spawn")
			b.ReportMetric(float64(resident()-before)/float64(n), "bytes/actor")
		}
	}
	b.Run(fmt.Sprint("covey-", n), func(b *testing.B) {
		sys := newBench(b)
		p := spawnIn(b, sys, supervisor.Spec{Name: "p", New: newProbe})
		measure(b, func(started *atomic.Int64) {
			// As an agent is made: a New of its own, one shared policy.
			p.Tell(do(func(c *supervisor.Context) error {
				for i := range n {
					_, err := c.Spawn(supervisor.Spec{Name: "agent-" + strconv.Itoa(i), Kind: "agent", New: func() (supervisor.Actor, error) {
						started.Add(1)
						return probe{}, nil
					}})
					if err != nil {
						b.Error(err)
					}
				}
				return nil
			}))
		})
	})
	b.Run(fmt.Sprint("protoactor-", n), func(b *testing.B) {
		sys := rawSystem(b)
		measure(b, func(started *atomic.Int64) {
			props := actor.PropsFromFunc(func(c actor.Context) {
				if _, ok := c.Message().(*actor.Started); ok {
					started.Add(1)
				}
			})
			sys.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
				if _, ok := c.Message().(*actor.Started); ok {
					for i := range n {
						if _, err := c.SpawnNamed(props, "agent-"+strconv.Itoa(i)); err != nil {
							b.Error(err)
						}
					}
				}
			}))
		})
		runtime.KeepAlive(sys)
	})
}

// resident is the heap and the stacks in use.
func resident() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
