package actors

import (
	"context"
	"errors"
	"slices"
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
	voided []place       // failed answers that no plan has built on
	usage  messages.Usage
	done   int // model replies and tool results
	read   int // of which were read
	unseen map[place]bool
}

// place is where a record belongs.
type place struct{ writer, step string }

// openLog takes every writer over and then reads what is there: nobody else's
// record can come in after.
func openLog(ctx context.Context, j Journal, run string, writers []string, claim messages.Claim) (*runLog, error) {
	l := &runLog{run: run, writers: map[string]Writer{}, steps: map[place][]messages.Body{}, unseen: map[place]bool{}}
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
			l.writers[name] = w
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	records, err := j.Read(ctx, run)
	if err != nil {
		return nil, err
	}
	for _, e := range records {
		l.add(e.Writer, e.Step, e.Body)
		if isPlanStep(e.Body) {
			l.unseen[place{e.Writer, e.Step}] = true
		}
	}
	l.read = l.done
	return l, nil
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
		for _, v := range l.voided {
			l.steps[v] = slices.DeleteFunc(l.steps[v], func(b messages.Body) bool {
				_, is := b.(*messages.Answered)
				return is
			})
		}
		l.voided = nil
		return
	case *messages.Modeled:
		l.usage = l.usage.Add(b.Usage)
		l.done++
	case *messages.Result:
		l.done++
	case *messages.Answered:
		if b.Reply.Error != nil {
			l.voided = append(l.voided, at)
		}
	}
	if isPlanStep(body) {
		l.voided = nil
	}
	l.steps[at] = append(l.steps[at], body)
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
	slices.Sort(missed)
	return messages.Errorf(messages.Diverged, l.run, "%w: step %s is in the journal, and the plan ended without it", ErrDiverged, missed[0])
}

// counts returns the steps there are, those that were read, and the usage.
func (l *runLog) counts() (steps, read int, usage messages.Usage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done, l.read, l.usage
}

// ErrDiverged: a plan does not match what its journal recorded, because the
// plan, or the team's definition, has changed since. The error names the first
// step that differs; the run is left as it was.
var ErrDiverged = errors.New("the plan has changed since the run began")
