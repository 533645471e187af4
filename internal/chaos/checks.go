package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/covey-run/covey/messages"
)

// Check is one thing that had to hold.
type Check struct {
	// Name says what.
	Name string `json:"name"`
	// Found are the ways in which it did not hold; none if it did.
	Found []string `json:"found,omitempty"`
	// Seen says what was looked at, or why nothing could be (with Skipped).
	Seen    string `json:"seen"`
	Skipped bool   `json:"skipped,omitempty"`
}

// OK reports whether nothing was found.
func (c Check) OK() bool { return len(c.Found) == 0 }

func (c *Check) found(format string, args ...any) {
	c.Found = append(c.Found, fmt.Sprintf(format, args...))
}

// The names of the checks.
const (
	checkEnded   = "every run answered, or failed with a class"
	checkEffects = "no unsafe tool effect twice"
	checkModels  = "no model call repeated but for a takeover"
	checkFence   = "no record under a stale claim"
	checkOnce    = "every step recorded once"
	checkQueue   = "no task left in the queue"
	checkLeases  = "no lease left behind"
	checkGo      = "no goroutine left behind"
	checkLogs    = "no panic, no data race, no process that ended by itself"
)

// skipped is a check that cannot be made here.
func skipped(name, why string) Check { return Check{Name: name, Seen: why, Skipped: true} }

// ended checks that every run which was submitted has its last record, and that
// each failure has one of the named classes. A run that waits for a person to
// settle a tool call is where it should be.
func ended(submitted []string, all map[string]*history, waiting map[string]bool) Check {
	c := Check{Name: checkEnded}
	answered, wait := 0, 0
	classes := map[messages.Class]int{}
	for _, run := range submitted {
		h := all[run]
		switch {
		case h == nil:
			c.found("run %s was submitted, and the journal has nothing of it", run)
		case h.answer != nil:
			answered++
		case h.failure != nil && !h.failure.Class.Valid():
			c.found("run %s failed with class %q, which is none: %v", run, h.failure.Class, h.failure)
		case h.failure != nil:
			classes[h.failure.Class]++
		case waiting[run]:
			wait++
		default:
			c.found("run %s has not ended: %d records, %d takeovers, last owner %s", run, len(h.records), h.takeovers(), h.owner())
		}
	}
	c.Seen = fmt.Sprintf("%d runs: %d answered", len(submitted), answered)
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		c.Seen += fmt.Sprintf(", %d failed (%s)", classes[class], class)
	}
	if wait > 0 {
		c.Seen += fmt.Sprintf(", %d wait for a person to settle a tool call that a crash cut off", wait)
	}
	return c
}

// fence reads the whole journal in its order: each record must name the newest
// claim of its writer.
func fence(records []record) Check {
	c := Check{Name: checkFence}
	type writer struct{ run, name string }
	newest := map[writer]record{}
	claims, takeovers := 0, 0
	for _, r := range records {
		w := writer{r.Run, r.Writer}
		if r.claim() != nil {
			claims++
			if _, again := newest[w]; again {
				takeovers++
			}
			newest[w] = r
			continue
		}
		under, err := r.under()
		owner, claimed := newest[w]
		switch {
		case err != nil:
			c.found("%v", err)
		case !claimed:
			c.found("record %d (%s) of run %s: nobody has claimed the writer %s", r.Seq, messages.KindOf(r.Body), r.Run, r.Writer)
		case under != owner.Seq:
			c.found("record %d (%s) of run %s, writer %s, was written under claim %d; since %s the newest is %d, of %s",
				r.Seq, messages.KindOf(r.Body), r.Run, r.Writer, under, owner.stored.Format("15:04:05.000"), owner.Seq, owner.claim().Node)
		}
	}
	c.Seen = fmt.Sprintf("%d records under %d claims, %d of them takeovers of a writer", len(records)-claims, claims, takeovers)
	return c
}

// once checks that no step of a run has two records.
func once(records []record) Check {
	c := Check{Name: checkOnce}
	seen := map[string]int{}
	for _, r := range records {
		at := r.Run + " " + r.Writer + " " + r.Step
		switch b := r.Body.(type) {
		case *messages.Modeled:
			seen[fmt.Sprintf("model reply %d of %s", b.N, at)]++
		case *messages.Intent:
			seen[fmt.Sprintf("intent %d.%d of %s", b.N, b.Call, at)]++
		case *messages.Result:
			seen[fmt.Sprintf("result %d.%d of %s", b.N, b.Call, at)]++
		case *messages.Begun, *messages.Asked, *messages.Answered, *messages.Done:
			seen[messages.KindOf(b)+" of "+at]++
		}
	}
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		if n := seen[what]; n > 1 {
			c.found("%d records of %s", n, what)
		}
	}
	c.Seen = fmt.Sprintf("%d steps", len(seen))
	return c
}

// effects compares what the world saw of the unsafe tools with the journal. The
// kit's models call each of them once in a run.
func effects(world []effect, all map[string]*history) Check {
	c := Check{Name: checkEffects}
	type at struct{ run, tool string }
	seen := map[at][]effect{}
	for _, e := range world {
		seen[at{e.order, e.tool}] = append(seen[at{e.order, e.tool}], e)
	}
	for at, es := range seen {
		if len(es) > 1 {
			slices.SortFunc(es, func(a, b effect) int { return a.at.Compare(b.at) })
			var how []string
			for _, e := range es {
				how = append(how, fmt.Sprintf("%s by %s under key %s", e.at.Format("15:04:05.000"), e.life, e.key))
			}
			c.found("run %s: the effect of %s took place %d times: %s", at.run, at.tool, len(es), strings.Join(how, "; "))
		}
	}
	settled := 0
	for run, h := range all {
		for key, in := range h.intents {
			res := h.results[key]
			if in.Effect != messages.Unsafe || res == nil || res.Error != nil {
				continue
			}
			settled++
			if !slices.ContainsFunc(seen[at{run, in.Tool.Name}], func(e effect) bool { return e.key == key }) {
				c.found("run %s: the journal has the result of %s (%s, settled by %s), and the effect never took place", run, in.Tool.Name, key, res.By)
			}
		}
		for _, tool := range tools {
			if h.answer != nil && len(seen[at{run, tool}]) == 0 {
				c.found("run %s answered, and the effect of %s never took place", run, tool)
			}
		}
	}
	slices.Sort(c.Found)
	c.Seen = fmt.Sprintf("%d effects, counted outside; %d results of unsafe calls in the journal", len(world), settled)
	return c
}

// repeats compares the model calls that the world saw with the journal. A writer
// makes one call at a time, so that a takeover can cost one; a kill costs as many
// as the node had rooms.
func repeats(world map[call]*seen, all map[string]*history, ends, rooms int) Check {
	c := Check{Name: checkModels}
	type writer struct{ run, name string }
	again := map[writer]int{}
	made, repeated := 0, 0
	for at, s := range world {
		made += s.calls
		again[writer{at.run, at.writer}] += s.calls - 1
		repeated += s.calls - 1
		if len(s.talks) > 1 {
			c.found("run %s, %s, call %d: asked with %d different conversations", at.run, at.writer, at.n, len(s.talks))
		}
		if h := all[at.run]; h != nil && h.answer != nil && h.models[at] == 0 {
			c.found("run %s, %s, call %d: paid for, and the journal of the answered run has no reply", at.run, at.writer, at.n)
		}
	}
	byName := func(a, b writer) int { return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.name, b.name)) }
	for _, w := range slices.SortedFunc(maps.Keys(again), byName) {
		claims := 0
		if h := all[w.run]; h != nil {
			claims = len(h.claims[w.name])
		}
		if n := again[w]; n > max(claims-1, 0) {
			c.found("run %s, %s: %d calls repeated, and %d takeovers", w.run, w.name, n, max(claims-1, 0))
		}
	}
	if repeated > ends*rooms {
		c.found("%d calls repeated by %d ends of owners with %d rooms each", repeated, ends, rooms)
	}
	slices.Sort(c.Found)
	c.Seen = fmt.Sprintf("%d calls, counted outside, for %d steps: %d repeated; at most one for each takeover of a writer, and %d for %d faults × %d rooms",
		made, len(world), repeated, ends*rooms, ends, rooms)
	return c
}

// owner is the node of the plan's newest claim.
func (h *history) owner() string {
	claims := h.claims[messages.PlanWriter]
	if len(claims) == 0 {
		return "none"
	}
	return claims[len(claims)-1].node
}
