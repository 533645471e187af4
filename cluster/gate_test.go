package cluster

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

var _ provider.Gate = (*gate)(nil)

// word is what a gate heard.
type word struct {
	name  string
	until time.Time // zero: closed
	cause *messages.Error
}

func testGate(t *testing.T, nc *nats.Conn, node string) (*gate, chan word) {
	t.Helper()
	words := make(chan word, 100)
	g := must(openGate(testCtx(t), nc, 0, node, heard{
		Opened: func(name string, until time.Time, cause *messages.Error) { words <- word{name, until, cause} },
		Closed: func(name string) { words <- word{name: name} },
	}, func(err error) { t.Log(node, err) }))(t)
	t.Cleanup(g.close)
	return g, words
}

func nextWord(t *testing.T, words chan word) word {
	t.Helper()
	select {
	case w := <-words:
		return w
	case <-testCtx(t).Done():
		t.Fatal("nothing was heard")
		panic("unreachable")
	}
}

const breakerName = "ollama/llama3.2:1b@127.0.0.1:11434"

func TestAnOpeningIsHeardByEveryNode(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	a, heardA := testGate(t, dialURL(t, url), "a")
	_, heardB := testGate(t, dialURL(t, url), "b")
	until := time.Now().Add(time.Minute)
	start := time.Now()
	a.Opened(breakerName, until, &messages.Error{Class: messages.Transient, Message: "503", Stack: "a stack"})
	w := nextWord(t, heardB)
	if took := time.Since(start); took > 100*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	if w.name != breakerName || !w.until.Equal(until) || w.cause.Class != messages.Transient || w.cause.Stack != "" {
		t.Errorf("%+v", w)
	}
	nextWord(t, heardA) // its own word comes back
	_, late := testGate(t, dialURL(t, url), "late")
	if w := nextWord(t, late); !w.until.Equal(until) {
		t.Errorf("a node that joins hears %+v", w)
	}
	a.Closed(breakerName)
	if w := nextWord(t, heardB); w.name != breakerName || !w.until.IsZero() {
		t.Errorf("%+v", w)
	}
}

// Two nodes that open at once end with the same moment, the later one.
func TestTheLaterEndCounts(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	a, heardA := testGate(t, dialURL(t, url), "a")
	b, heardB := testGate(t, dialURL(t, url), "b")
	sooner, later := time.Now().Add(time.Minute), time.Now().Add(2*time.Minute)
	b.Opened("m", later, nil)
	a.Opened("m", sooner, nil)
	var last [2]time.Time
	soon(t, func() bool {
		for i, words := range []chan word{heardA, heardB} {
			for len(words) > 0 {
				if w := <-words; w.until.After(last[i]) { // as a breaker does
					last[i] = w.until
				}
			}
		}
		e, err := a.kv.Get(testCtx(t), openKey+"m")
		var o opening
		return err == nil && json.Unmarshal(e.Value(), &o) == nil && o.Until.Equal(later) && last[0].Equal(later) && last[1].Equal(later)
	})
}

func TestOneNodeProbes(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	a, _ := testGate(t, dialURL(t, url), "a")
	b, _ := testGate(t, dialURL(t, url), "b")
	ctx := testCtx(t)
	for range 3 { // as many probes as close a breaker, in turns
		release, granted := a.Probe(ctx, "m", time.Now())
		if !granted {
			t.Fatal("the first to ask is refused")
		}
		if _, granted := b.Probe(ctx, "m", time.Now()); granted {
			t.Fatal("two nodes probe")
		}
		if other, granted := b.Probe(ctx, "another", time.Now()); !granted {
			t.Fatal("another breaker's probe is refused")
		} else {
			other(true)
		}
		release(true)
		soon(t, func() bool {
			release, granted := b.Probe(ctx, "m", time.Now())
			if granted {
				release(false)
			}
			return granted
		})
		soon(t, func() bool {
			release, granted := a.Probe(ctx, "m", time.Now())
			if granted {
				release(false)
			}
			return granted
		})
		soon(t, func() bool { // given back
			_, err := a.kv.Get(ctx, probeKey+"m")
			return err != nil
		})
	}
}

// soon waits for what another goroutine is about to do.
func soon(t *testing.T, done func() bool) {
	t.Helper()
	ctx := testCtx(t)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not come true")
		}
	}
}

func TestADeadNodesProbeEnds(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	nc := dialURL(t, url)
	a, _ := testGate(t, nc, "a")
	b, _ := testGate(t, dialURL(t, url), "b")
	a.ttl = time.Second
	if _, granted := a.Probe(testCtx(t), "m", time.Now()); !granted {
		t.Fatal("refused")
	}
	// It is renewed beyond its time…
	for start := time.Now(); time.Since(start) < 1500*time.Millisecond; {
		if _, granted := b.Probe(testCtx(t), "m", time.Now()); granted {
			t.Fatalf("granted while the holder lives, after %v", time.Since(start))
		}
	}
	nc.Close() // …while the node lives
	soon(t, func() bool {
		release, granted := b.Probe(testCtx(t), "m", time.Now())
		if granted {
			release(true)
		}
		return granted
	})
}

func TestWithoutNATSANodeIsAlone(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	url, stop := listen(t, dir, port)
	a, heardA := testGate(t, dialURL(t, url), "a")
	b, heardB := testGate(t, dialURL(t, url), "b")
	stop()
	start := time.Now()
	if release, granted := a.Probe(context.Background(), "m", time.Now()); !granted {
		t.Error("refused by nobody")
	} else {
		release(true)
	}
	if took := time.Since(start); took > 3*gateWait {
		t.Errorf("it waited %v", took)
	}
	a.Opened("m", time.Now().Add(time.Hour), nil) // returns at once
	listen(t, dir, port)
	for _, words := range []chan word{heardA, heardB} {
		if w := nextWord(t, words); w.name != "m" || w.until.IsZero() {
			t.Errorf("%+v", w)
		}
	}
	b.Closed("m")
	if w := nextWord(t, heardA); !w.until.IsZero() {
		t.Errorf("%+v", w)
	}
}

func TestBreakerKeys(t *testing.T) {
	for _, name := range []string{breakerName, "ollama/llama3.2:1b", "a.b c=d*>é"} {
		k := keyOf(name)
		back, err := unkey(k)
		if err != nil || back != name {
			t.Errorf("%q → %q → %q, %v", name, k, back, err)
		}
	}
	for _, bad := range []string{"=", "=4", "=zz"} {
		if got, err := unkey(bad); err == nil {
			t.Errorf("%q → %q", bad, got)
		}
	}
}
