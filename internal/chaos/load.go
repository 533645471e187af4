package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	covey "github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// load keeps a number of runs under way, and knows which have ended.
type load struct {
	o      Options
	client *covey.Client

	mu        sync.Mutex // guards the rest
	submitted []string
	ended     map[string]bool
	waiting   map[string]bool // for a person
	changed   chan struct{}   // closed and replaced with each end
}

func newLoad(o Options, client *covey.Client) *load {
	return &load{o: o, client: client, ended: map[string]bool{}, waiting: map[string]bool{}, changed: make(chan struct{})}
}

// heard takes a record of the journal.
func (l *load) heard(r record) {
	switch r.Body.(type) {
	case *messages.Done, *messages.Failed:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended[r.Run] = true
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// open returns how many runs have neither ended nor wait for a person, and what
// is closed when that changes.
func (l *load) open() (int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, run := range l.submitted {
		if !l.ended[run] && !l.waiting[run] {
			n++
		}
	}
	return n, l.changed
}

// submit submits runs until time is up. A submission that hits a fault is made
// again, under the same id, for as long as a run may take to end.
func (l *load) submit(ctx context.Context, until time.Time) error {
	every := time.NewTicker(5 * time.Second / time.Duration(l.o.Runs))
	defer every.Stop()
	for n := 1; time.Now().Before(until); n++ {
		for {
			open, changed := l.open()
			if open < l.o.Runs {
				break
			}
			select {
			case <-changed:
			case <-time.After(time.Until(until)):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := l.one(ctx, fmt.Sprintf("chaos-%04d", n)); err != nil {
			return err
		}
		if n <= l.o.Runs {
			continue // the first ones come at once
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (l *load) one(ctx context.Context, id string) error {
	l.mu.Lock()
	l.submitted = append(l.submitted, id)
	l.mu.Unlock()
	prompt := l.o.Prompt
	if l.o.Team == "" {
		prompt = "Handle order " + id + "."
	}
	task := messages.Task{ID: id, Team: l.o.Name, Prompt: prompt, Definition: l.o.Definition}
	late := time.Now().Add(l.o.Within)
	for {
		try, cancel := context.WithTimeout(ctx, submitWithin)
		_, err := l.client.Submit(try, task)
		cancel()
		c := messages.ClassOf(err)
		if err == nil || ctx.Err() != nil || c == messages.Invalid || c == messages.Unauthorized || time.Now().After(late) {
			return err
		}
		if wait(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

// submitWithin bounds one try to submit a run: a server that elects a leader
// takes up to 10 s.
const submitWithin = 15 * time.Second

// settle waits until every run has ended, or waits for a person.
func (l *load) settle(ctx context.Context) {
	look := time.NewTicker(2 * time.Second)
	defer look.Stop()
	for {
		n, changed := l.open()
		if n == 0 {
			return
		}
		select {
		case <-changed:
		case <-look.C:
			l.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// look asks where the runs stand that have not ended.
func (l *load) look(ctx context.Context) {
	l.mu.Lock()
	var open []string
	for _, run := range l.submitted {
		if !l.ended[run] {
			open = append(open, run)
		}
	}
	l.mu.Unlock()
	for _, run := range open {
		info, err := l.client.Run(ctx, run)
		if err != nil {
			return // asked again soon
		}
		l.mu.Lock()
		l.waiting[run] = info.State == messages.RunWaiting
		l.mu.Unlock()
	}
}

// cancel ends the runs that wait for a person.
func (l *load) cancel(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for run, waits := range l.waiting {
		if waits && !l.ended[run] {
			if err := l.client.Cancel(ctx, run, "the end of covey chaos"); err != nil {
				return err
			}
		}
	}
	return nil
}
