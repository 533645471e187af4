package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kills is how many random kills there are: COVEY_KILLS, or 25.
func kills(t *testing.T) int {
	n := 25
	if v := os.Getenv("COVEY_KILLS"); v != "" {
		var err error
		n, err = strconv.Atoi(v)
		ok(t, err)
	}
	return n
}

// seed is COVEY_SEED, or another one each time; it is printed.
func seed(t *testing.T) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if v := os.Getenv("COVEY_SEED"); v != "" {
		var err error
		n, err = strconv.ParseUint(v, 10, 64)
		ok(t, err)
	}
	t.Logf("COVEY_SEED=%d", n)
	return rand.New(rand.NewPCG(n, n))
}

// again are the two ways to go on with a run, one after the other.
func (w *world) again(s standing) []string {
	where := []string{}
	if w.data.URL != "" {
		where = []string{"--nats", w.data.URL}
	}
	// A run that has ended, and of which the queue knows, may have been answered.
	if s.run != "" && (w.kills%2 == 0 || s.ended && !s.queued) {
		return append(where, "resume", s.run)
	}
	return append(where, "run", w.team, question)
}

// finishes waits for a life's end by itself, with the right answer.
func (w *world) finishes(p *process, s standing) {
	w.t.Helper()
	p.wait(0)
	if got := strings.TrimSpace(p.out.String()); got != rightAnswer {
		w.t.Errorf("answer %q, want %q\n%s", got, rightAnswer, p)
	}
	if s.steps > 0 {
		text := "(" + count(s.steps, "step") + " from the journal)"
		p.says(text)
	}
}

// TestKillAtEveryStep kills a run, and each of its resumptions, at the next
// point where it waits for the world outside: for a model's reply, in the middle
// of it, before a tool has its effect and after it.
func TestKillAtEveryStep(t *testing.T) {
	w := newWorld(t)
	var points []string
	for n := 1; n <= 7; n++ { // three of the clerk, two of the cashier, the writer, the patron
		points = append(points, fmt.Sprintf("model %d is asked", n), fmt.Sprintf("model %d has said half", n))
		switch n {
		case 1:
			points = append(points, "lookup begins", "lookup is done") // beside it weigh goes on
		case 2:
			points = append(points, "reserve begins", "reserve is done")
		case 4:
			points = append(points, "charge begins", "charge is done")
		}
	}
	var s standing
	for _, point := range points {
		w.holdAt(point)
		p := w.begin(w.again(s)...)
		if !w.holding(p) {
			t.Fatalf("it ended before %s\n%s", point, p)
		}
		p.kill()
		was := s.steps
		if s = w.killed(); s.steps < was {
			t.Fatalf("killed when %s: %d steps, %d before", point, s.steps, was)
		}
	}
	w.finishes(w.begin(w.again(s)...), s)
	w.check()
	t.Logf("%d kills, %d model calls for %d steps", w.kills, len(w.order)+extra(w), len(w.order))
}

func extra(w *world) (n int) {
	for _, c := range w.calls {
		n += c - 1
	}
	return n
}

// TestKillAtRandom kills runs at any moment from the start of the process to its
// end.
func TestKillAtRandom(t *testing.T) {
	want, rng := kills(t), seed(t)
	calm := newWorld(t)
	calm.pace = 4 * time.Millisecond
	began := time.Now()
	calm.finishes(calm.begin("run", calm.team, question), standing{})
	whole := time.Since(began)
	calm.check()
	began = time.Now()
	killed, runs, repeated, slowest := 0, 0, 0, time.Duration(0)
	for killed < want {
		w := newWorld(t)
		w.pace = calm.pace
		runs++
		var s standing
		for left := 1 + rng.IntN(8); ; {
			p := w.begin(w.again(s)...)
			if left == 0 {
				start := time.Now()
				w.finishes(p, s)
				slowest = max(slowest, time.Since(start))
				break
			}
			select {
			case <-p.done: // before its hour
				w.finishes(p, s)
				left = -1
			case <-time.After(time.Duration(rng.Int64N(int64(whole)))):
				p.kill()
				left--
				killed++
				s = w.killed()
			}
			if left < 0 {
				break
			}
		}
		w.check()
		repeated += extra(w)
		if t.Failed() {
			t.Fatalf("after %d kills, in run %d", killed, runs)
		}
	}
	t.Logf("%d kills of %d runs in %s: %d model calls made again; slowest resumption %s (a calm run takes %s)",
		killed, runs, time.Since(began).Round(time.Millisecond), repeated, slowest.Round(time.Millisecond), whole.Round(time.Millisecond))
}
