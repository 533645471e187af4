package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// onServer has the world's covey use a NATS server in the test process, as
// several machines would share one.
func (w *world) onServer() {
	w.t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: w.t.TempDir(), NoSigs: true, NoLog: true,
	})
	ok(w.t, err)
	s.Start()
	if !s.ReadyForConnections(limit()) {
		w.t.Fatal("the NATS server is not ready")
	}
	w.t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	w.data = cluster.Config{URL: s.ClientURL(), Logger: silent}
}

// gate is a way to the NATS server that stops at one append to a journal: before
// the server has it, or after the server has it and before its author knows.
type gate struct {
	w  *world
	ln net.Listener
	to string
	wg sync.WaitGroup

	mu      sync.Mutex
	conns   []net.Conn
	appends int           // of this life
	stopAt  int           // the append to stop at, from 1
	after   bool          // once the server has it
	reached chan struct{} // closed there
	open    chan struct{} // closed when the life is over
}

func (w *world) gate() *gate {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(w.t, err)
	g := &gate{w: w, ln: ln, to: strings.TrimPrefix(w.data.URL, "nats://"), reached: make(chan struct{}), open: make(chan struct{})}
	g.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			g.wg.Go(func() { g.join(c) })
		}
	})
	w.t.Cleanup(func() {
		g.mu.Lock()
		select {
		case <-g.open:
		default:
			close(g.open)
		}
		for _, c := range g.conns {
			_ = c.Close()
		}
		g.mu.Unlock()
		_ = ln.Close()
		g.wg.Wait()
	})
	return g
}

func (g *gate) url() string { return "nats://" + g.ln.Addr().String() }

// arm sets the stop for the next life.
func (g *gate) arm(stopAt int, after bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.appends, g.stopAt, g.after = 0, stopAt, after
	g.reached, g.open = make(chan struct{}), make(chan struct{})
}

// disarm ends a life's connections, as its death did.
func (g *gate) disarm() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns, g.stopAt = nil, 0
}

func (g *gate) join(c net.Conn) {
	s, err := net.Dial("tcp", g.to)
	if err != nil {
		_ = c.Close()
		return
	}
	g.mu.Lock()
	g.conns = append(g.conns, c, s)
	g.mu.Unlock()
	down := &sync.Mutex{} // held: the client hears nothing
	g.wg.Go(func() {
		defer c.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := s.Read(b)
			down.Lock()
			if n > 0 {
				_, _ = c.Write(b[:n])
			}
			down.Unlock()
			if err != nil {
				return
			}
		}
	})
	defer s.Close()
	in := bufio.NewReaderSize(c, 64<<10)
	for {
		whole, subject, err := readOp(in)
		if err != nil {
			return
		}
		stop, after := g.counts(subject)
		if !stop {
			if _, err := s.Write(whole); err != nil {
				return
			}
			continue
		}
		g.mu.Lock()
		reached, open := g.reached, g.open
		g.mu.Unlock()
		if after {
			down.Lock()
			_, _ = s.Write(whole)
		}
		close(reached)
		<-open
		if after {
			down.Unlock()
		}
		return // the life is over; what came before the server had it is lost
	}
}

// counts says whether to stop at a message to a subject.
func (g *gate) counts(subject string) (stop, after bool) {
	if !strings.HasPrefix(subject, messages.SubjectRuns+".") {
		return false, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.appends++
	return g.appends == g.stopAt, g.after
}

// readOp reads one operation of a NATS client, its payload included.
func readOp(in *bufio.Reader) (whole []byte, subject string, err error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, "", err
	}
	f := strings.Fields(string(line))
	if len(f) < 2 || f[0] != "PUB" && f[0] != "HPUB" {
		return line, "", nil
	}
	size, err := strconv.Atoi(f[len(f)-1])
	if err != nil {
		return nil, "", err
	}
	rest := make([]byte, size+2)
	if _, err := io.ReadFull(in, rest); err != nil {
		return nil, "", err
	}
	return append(line, rest...), f[1], nil
}

// TestKillAtEveryRecord kills a run, and each of its resumptions on the same
// NATS server, at every append to its journal: when the record is on its way and
// not stored, and when it is stored and its author does not know.
func TestKillAtEveryRecord(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	g := w.gate()
	direct := w.data
	through := direct
	through.URL = g.url()
	var s standing
	for n, last := 1, false; !last; n++ {
		for _, after := range []bool{false, true} {
			g.arm(n-len(s.records), after)
			w.data = through
			p := w.begin(w.again(s)...)
			w.data = direct
			select {
			case <-g.reached:
			case <-p.done:
				t.Fatalf("it ended before record %d\n%s", n, p)
			case <-time.After(limit()):
				t.Fatalf("never: record %d\n%s", n, p)
			}
			if after {
				w.stored(n)
			}
			p.kill()
			g.disarm()
			if s = w.killed(); len(s.records) != n-1 && !after || len(s.records) != n && after {
				t.Fatalf("killed at record %d (stored: %t): the journal has %d\n%s", n, after, len(s.records), p)
			}
			last = s.ended
		}
	}
	w.finishes(w.begin(w.again(s)...), s)
	w.check()
	t.Logf("%d kills at %d records: %d model calls for %d steps", w.kills, len(s.records), len(w.order)+extra(w), len(w.order))
}

// stored waits until the run has n records.
func (w *world) stored(n int) {
	w.t.Helper()
	w.client(func(ctx context.Context, c *cluster.Client) {
		poll(w.t, fmt.Sprintf("record %d is stored", n), func() bool {
			tasks, err := c.Queue(ctx)
			ok(w.t, err)
			records, err := c.Read(ctx, tasks[0].ID)
			ok(w.t, err)
			return len(records) >= n
		})
	})
}

// TestStaleOwner freezes the owner of a run in the middle of a model call, has
// another process take the run over, and wakes the first one up.
func TestStaleOwner(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	at := "--nats=" + w.data.URL
	const asked = "model 4 is asked" // the cashier's, whose tool is unsafe
	w.holdAt(asked)
	stale := w.begin(at, "run", w.team, question)
	if !w.holding(stale) {
		t.Fatalf("it ended before %s\n%s", asked, stale)
	}
	stale.signal(syscall.SIGSTOP)
	t.Cleanup(func() { stale.signal(syscall.SIGCONT) })
	before := w.look()

	// The first one's call stays held; the second one makes it again, and is held
	// at the next.
	const next = "model 5 is asked"
	w.mu.Lock()
	w.hold, w.held = next, false // those held at asked are let go by release only
	w.kills++                    // one call more, as for a kill
	w.mu.Unlock()
	taking := time.Now()
	w.where.env = append(w.where.env, lifeVariable+"=2")
	w.mu.Lock()
	w.life++
	w.gone = append(w.gone, make(chan struct{}))
	w.mu.Unlock()
	heir := w.where.start(t, at, "resume", before.run)
	if !w.holding(heir) {
		t.Fatalf("it ended before %s\n%s", next, heir)
	}
	took := time.Since(taking)
	taken := w.look()
	if len(readEffects(w.effects)) != 4 {
		t.Fatalf("effects: %q", readEffects(w.effects))
	}

	stale.signal(syscall.SIGCONT)
	stale.sees("another one goes on with the run")
	if now := w.look(); len(now.records) != len(taken.records) {
		t.Errorf("%d records before the stale owner woke up, %d after that", len(taken.records), len(now.records))
	}
	if n := len(readEffects(w.effects)); n != 4 {
		t.Errorf("%d effects after the stale owner woke up, 4 before", n)
	}
	w.release()
	w.finishes(heir, before)
	stale.wait(0).prints(rightAnswer)
	w.check() // the charge took effect once
	t.Logf("taken over, and at the next model call, after %s", took.Round(time.Millisecond))
}

// TestTwoOnOneServer has two processes with one team ask different questions at
// the same time: neither waits for the other's task.
func TestTwoOnOneServer(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	at := "--nats=" + w.data.URL
	w.holdAt("model 1 is asked")
	first := w.begin(at, "run", w.team, question)
	if !w.holding(first) {
		t.Fatal(first)
	}
	began := time.Now()
	second := w.where.start(t, at, "run", w.team, "Sell me a gift?")
	second.wait(0).prints("SOLD: true given")
	if took := time.Since(began); took > limit()/2 {
		t.Errorf("the second one took %s", took)
	}
	w.release()
	first.wait(0).prints(rightAnswer)
}
