package actors

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/covey-run/covey/messages"
)

// runLog is a run's journal in memory: what was read when the run was taken
// over, and what has been appended since. It is safe for concurrent use.
type runLog struct {
	run     string
	writers map[string]Writer // fixed after openLog

	mu     sync.Mutex
	steps  map[place][]messages.Body
	begun  *messages.Begun
	last   messages.Body // Done or Failed, nil while the run goes on
	failed []place       // failed answers that no plan has built on
	usage  messages.Usage
	done   int    // model replies and tool results
	read   int    // of which were read
	seq    uint64 // the last record that was read
	unseen map[place]bool
}

// place is where a record belongs.
type place struct{ writer, step string }

// openLog opens the journal of a task's run. A run that has ended is only read.
// Any other is taken over, writer by writer, and then read: nobody else's record
// can come in after. A run of that id that has another task is refused, and its
// owner not disturbed.
func openLog(ctx context.Context, j Journal, task messages.Task, writers []string, claim messages.Claim) (*runLog, error) {
	l, err := readLog(ctx, j, task)
	if err != nil || l.last != nil {
		return l, err
	}
	claims, err := claimAll(ctx, j, task.ID, writers, claim)
	if err != nil {
		return nil, err
	}
	if l, err = readLog(ctx, j, task); err != nil {
		return nil, err
	}
	l.writers = claims
	if l.begun == nil {
		return l, l.append(ctx, messages.PlanWriter, "", &messages.Begun{Task: task})
	}
	return l, nil
}

// claimAll takes the writers over.
func claimAll(ctx context.Context, j Journal, run string, writers []string, claim messages.Claim) (map[string]Writer, error) {
	claims := make(map[string]Writer, len(writers))
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, name := range writers {
		g.Go(func() error {
			c := claim
			if name != messages.PlanWriter {
				c.Ack = ""
			}
			w, err := j.Claim(gctx, run, name, c)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			claims[name] = w
			return nil
		})
	}
	return claims, g.Wait()
}

// readLog reads a run. It can be appended to once it has writers.
func readLog(ctx context.Context, j Journal, task messages.Task) (*runLog, error) {
	l := &runLog{run: task.ID, steps: map[place][]messages.Body{}, unseen: map[place]bool{}}
	records, err := j.Read(ctx, task.ID)
	if err != nil {
		return nil, err
	}
	for _, e := range records {
		l.add(e.Writer, e.Step, e.Body)
		l.seq = max(l.seq, e.Seq)
		if isPlanStep(e.Body) {
			l.unseen[place{e.Writer, e.Step}] = true
		}
	}
	l.read = l.done
	if l.begun != nil {
		if was := l.begun.Task; was.Prompt != task.Prompt || was.Team != task.Team {
			return nil, otherTask(task.ID, was)
		}
	}
	return l, nil
}

// catchUp reads what others have appended since: the homes of members that live
// on other nodes.
func (l *runLog) catchUp(ctx context.Context, j Journal) error {
	records, err := j.Read(ctx, l.run)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seq
	for _, e := range records {
		if _, own := l.writers[e.Writer]; !own && e.Seq > seen {
			l.add(e.Writer, e.Step, e.Body)
		}
		l.seq = max(l.seq, e.Seq)
	}
	return nil
}

// isPlanStep reports whether a plan wrote the record, and so will pass it again
// when it is walked again.
func isPlanStep(b messages.Body) bool {
	switch b.(type) {
	case *messages.Asked, *messages.Spoken, *messages.Decided, *messages.Timer:
		return true
	}
	return false
}

// add indexes one record; mu is held, or nobody else has l yet.
func (l *runLog) add(writer, step string, body messages.Body) {
	at := place{writer, step}
	switch b := body.(type) {
	case *messages.Begun:
		l.begun = b
	case *messages.Done, *messages.Failed:
		l.last = b
		return
	case *messages.Reopened:
		l.last = nil
		if l.begun != nil { // whoever reopens a run gives it the time that it needs
			again := *l.begun
			again.Task.Deadline = time.Time{}
			l.begun = &again
		}
		for _, p := range l.failed {
			l.steps[p] = voided(l.steps[p])
		}
		l.failed = nil
		return
	case *messages.Resolve: // the call did not happen: it has no intent yet
		l.steps[at] = slices.DeleteFunc(l.steps[at], func(body messages.Body) bool {
			in, is := body.(*messages.Intent)
			return is && b.Retry && in.N == b.N && in.Call == b.Call
		})
		return
	case *messages.Modeled:
		l.usage = l.usage.Add(b.Usage)
		l.done++
	case *messages.Result:
		l.done++
	case *messages.Answered:
		if b.Reply.Error != nil {
			l.failed = append(l.failed, at)
		}
	}
	if isPlanStep(body) && len(l.failed) > 0 {
		// The plan went on: from what failed before in the same branch, or in one
		// that had to end first.
		branch := step[:strings.LastIndexByte(step, '.')+1]
		l.failed = slices.DeleteFunc(l.failed, func(p place) bool { return strings.HasPrefix(p.step, branch) })
	}
	l.steps[at] = append(l.steps[at], body)
}

// voided is what is left of a failed turn that is to be tried again: its answer
// goes, and so do the final replies of the model that could not be used.
func voided(turn []messages.Body) []messages.Body {
	var kept []messages.Body
	useful := -1 // the last model reply that called tools
	for _, b := range turn {
		if m, ok := b.(*messages.Modeled); ok && len(m.Message.ToolCalls) > 0 {
			useful = max(useful, m.N)
		}
	}
	for _, b := range turn {
		switch b := b.(type) {
		case *messages.Answered:
			continue
		case *messages.Modeled:
			if b.N > useful {
				continue
			}
		}
		kept = append(kept, b)
	}
	return kept
}

// append makes a record durable, and then part of the log.
func (l *runLog) append(ctx context.Context, writer, step string, body messages.Body) error {
	w, ok := l.writers[writer]
	if !ok {
		return messages.Errorf(messages.Invalid, l.run, "no writer %q was claimed", writer)
	}
	if _, err := w.Append(ctx, step, body); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(writer, step, body)
	return nil
}

// find returns the first record of type T at a place that ok accepts.
func find[T any](l *runLog, writer, step string, ok func(*T) bool) *T {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.steps[place{writer, step}] {
		if t, is := b.(*T); is && (ok == nil || ok(t)) {
			return t
		}
	}
	return nil
}

// at returns the plan's record at a step, whatever it is, and marks it passed.
func (l *runLog) at(writer, step string) messages.Body {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := place{writer, step}
	delete(l.unseen, p)
	for _, b := range l.steps[p] {
		if isPlanStep(b) {
			return b
		}
	}
	return nil
}

// passed returns an error of class diverged if the plan of that writer ended
// without passing a step below prefix that an earlier walk recorded.
func (l *runLog) passed(writer, prefix string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var missed []string
	for p := range l.unseen {
		if p.writer == writer && len(p.step) > len(prefix) && p.step[:len(prefix)] == prefix {
			missed = append(missed, p.step)
		}
	}
	if len(missed) == 0 {
		return nil
	}
	slices.SortFunc(missed, compareSteps)
	return interruption{messages.Errorf(messages.Diverged, l.run, "%w: step %s is in the journal, and the plan ended without it", ErrDiverged, missed[0])}
}

// compareSteps orders step keys as a plan passes them: 2 before 10.
func compareSteps(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(x, y string) int {
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	})
}

// counts returns the steps there are, those that were read, and the usage.
func (l *runLog) counts() (steps, read int, usage messages.Usage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done, l.read, l.usage
}
