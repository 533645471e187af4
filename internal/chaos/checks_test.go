package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
)

// book writes a journal by hand.
type book struct {
	records []record
	claims  map[string]uint64
	n       int
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func (b *book) add(run, writer, id string, body messages.Body) {
	seq := uint64(len(b.records) + 1)
	b.records = append(b.records, record{
		Envelope: messages.Envelope{ID: id, Run: run, Writer: writer, Step: "1", Seq: seq, Body: body},
		stored:   noon.Add(time.Duration(seq) * time.Second),
	})
}

func (b *book) claim(run, writer, node string) {
	if b.claims == nil {
		b.claims = map[string]uint64{}
	}
	b.add(run, writer, run+"/"+writer+"/claim/x", &messages.Claim{Node: node})
	b.claims[run+"/"+writer] = uint64(len(b.records))
}

func (b *book) write(run, writer string, body messages.Body) {
	b.n++
	b.add(run, writer, fmt.Sprintf("%s/%s/%d/%d", run, writer, b.claims[run+"/"+writer], b.n), body)
}

// whole is a run that was taken over once and answered.
func whole() *book {
	b := &book{}
	b.claim("r1", "plan", "node-1")
	b.claim("r1", "clerk", "node-1")
	b.write("r1", "plan", &messages.Begun{})
	b.write("r1", "clerk", &messages.Modeled{N: 0})
	b.write("r1", "clerk", &messages.Intent{N: 0, Key: "k1", Tool: messages.ToolCall{Name: "charge"}})
	b.claim("r1", "plan", "node-2")
	b.claim("r1", "clerk", "node-2")
	b.write("r1", "clerk", &messages.Result{N: 0, Output: "charged", By: "verify"})
	b.write("r1", "clerk", &messages.Modeled{N: 1})
	b.write("r1", "plan", &messages.Done{Answer: messages.Answer{Text: "yes"}})
	return b
}

func charges(runs ...string) (es []effect) {
	for _, run := range runs {
		es = append(es, effect{tool: "charge", order: run, key: "k1", life: "node-1.1", at: noon})
	}
	if len(runs) > 0 {
		es = append(es, effect{tool: "ship", order: runs[0], key: "k2", life: "node-2.1", at: noon})
	}
	return es
}

func models(calls map[int]int) map[call]*seen {
	m := map[call]*seen{}
	for n, times := range calls {
		m[call{"r1", "clerk", n}] = &seen{times, map[string]bool{"a": true}}
	}
	return m
}

// finds fails unless a check found exactly one thing that says all words; with
// none it must have found nothing.
func finds(t *testing.T, c Check, words ...string) {
	t.Helper()
	if len(words) == 0 {
		if !c.OK() || c.Seen == "" {
			t.Errorf("%s: found %q, seen %q", c.Name, c.Found, c.Seen)
		}
		return
	}
	if len(c.Found) != 1 {
		t.Fatalf("%s: found %q", c.Name, c.Found)
	}
	for _, w := range words {
		if !strings.Contains(c.Found[0], w) {
			t.Errorf("%s: found %q, which does not say %q", c.Name, c.Found[0], w)
		}
	}
}

func TestChecksPass(t *testing.T) {
	b := whole()
	all := histories(b.records)
	finds(t, ended([]string{"r1"}, all, nil))
	finds(t, fence(b.records))
	finds(t, once(b.records))
	finds(t, effects(charges("r1"), all))
	finds(t, repeats(models(map[int]int{0: 1, 1: 2}), all, 1, 16))
}

func TestEnded(t *testing.T) {
	b := whole()
	b.claim("r2", "plan", "node-3")
	b.write("r2", "plan", &messages.Begun{})
	all := histories(b.records)
	finds(t, ended([]string{"r1", "r2"}, all, nil), "r2 has not ended", "node-3")
	finds(t, ended([]string{"r1", "r2"}, all, map[string]bool{"r2": true}))
	finds(t, ended([]string{"r3"}, all, nil), "r3", "nothing")
	b.write("r2", "plan", &messages.Failed{Error: messages.Errorf("odd", "", "it broke")})
	finds(t, ended([]string{"r2"}, histories(b.records), nil), "r2", `"odd"`)
}

func TestFence(t *testing.T) {
	b := whole()
	stale := b.claims["r1/clerk"]
	b.claim("r1", "clerk", "node-3")
	b.add("r1", "clerk", fmt.Sprintf("r1/clerk/%d/99", stale), &messages.Modeled{N: 2})
	finds(t, fence(b.records), "record 12 (model) of run r1", "claim 7", "newest is 11, of node-3")

	b = &book{}
	b.add("r1", "plan", "r1/plan/1/1", &messages.Begun{})
	finds(t, fence(b.records), "nobody has claimed")
	b = whole()
	b.add("r1", "plan", "odd", &messages.Begun{})
	finds(t, fence(b.records), `"odd" names no claim`)
}

func TestOnce(t *testing.T) {
	b := whole()
	b.write("r1", "clerk", &messages.Modeled{N: 1})
	finds(t, once(b.records), "2 records of model reply 1 of r1 clerk 1")
}

func TestEffects(t *testing.T) {
	all := histories(whole().records)
	finds(t, effects(charges("r1", "r1"), all), "r1", "2 times", "12:00:00.000 by node-1.1 under key k1")
	if c := effects(nil, all); len(c.Found) != 3 { // one settled, two of an answered run
		t.Errorf("found %q", c.Found)
	}
	other := charges("r1")
	other[0].key = "k3"
	finds(t, effects(other, all), "the journal has the result of charge (k1, settled by verify)")
}

func TestRepeats(t *testing.T) {
	all := histories(whole().records)
	finds(t, repeats(models(map[int]int{0: 2, 1: 2}), all, 1, 16), "r1, clerk: 2 calls repeated, and 1 takeovers")
	finds(t, repeats(models(map[int]int{0: 1, 1: 2}), all, 0, 16), "1 calls repeated by 0 ends")
	finds(t, repeats(models(map[int]int{0: 1, 1: 1, 2: 1}), all, 1, 16), "call 2: paid for")
	odd := models(map[int]int{0: 1, 1: 2})
	odd[call{"r1", "clerk", 1}].talks["b"] = true
	finds(t, repeats(odd, all, 1, 16), "2 different conversations")
}

func TestHistory(t *testing.T) {
	h := histories(whole().records)["r1"]
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	if !h.by("node-1", at(5)) || h.by("node-2", at(5)) || h.by("node-1", at(8)) || !h.by("node-2", at(8)) {
		t.Error("owners are wrong")
	}
	if d, ok := h.pause(at(5)); !ok || d != 3*time.Second { // claims are no progress
		t.Error(d, ok)
	}
	if _, ok := h.pause(at(10)); ok {
		t.Error("a pause after the end")
	}
	if _, ok := h.pause(at(1)); ok {
		t.Error("a pause before the beginning")
	}
	if h.takeovers() != 1 || h.owner() != "node-2" || !h.over() {
		t.Error(h.takeovers(), h.owner(), h.over())
	}
}
