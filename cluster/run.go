package cluster

import (
	"context"
	"sync"

	"github.com/covey-run/covey/messages"
)

// Run is a task that was submitted.
type Run struct {
	// ID is the run's, and the task's.
	ID string

	node *Node
	done chan struct{}
	once sync.Once
	result
}

// result is what became of a run: from its last record if it ended, else why
// this node no longer works on it.
type result struct {
	ended  bool
	answer messages.Answer
	err    error
	info   *messages.RunInfo // in place of answer and err
}

// resultOf is the result in a run's last record.
func resultOf(last messages.Body) result {
	switch b := last.(type) {
	case *messages.Done:
		return result{ended: true, answer: b.Answer}
	case *messages.Failed:
		return result{ended: true, err: b.Error}
	}
	return result{}
}

func (r *Run) finish(res result) {
	r.once.Do(func() {
		if i := res.info; i != nil {
			if i.Answer != nil {
				res.answer = *i.Answer
				res.answer.Journal = res.answer.Steps
			}
			if i.Error != nil {
				res.err = i.Error
			}
		}
		r.result = res
		close(r.done)
	})
}

// Done is closed once the run has ended, or this node has stopped working on it.
func (r *Run) Done() <-chan struct{} { return r.done }

// Wait returns the run's answer, or its failure. An error of class stopping or
// diverged means that the run has not ended and can be resumed. When ctx ends
// first the run goes on.
func (r *Run) Wait(ctx context.Context) (messages.Answer, error) {
	select {
	case <-r.done:
		return r.answer, r.err
	case <-ctx.Done():
		return messages.Answer{}, messages.AsError(context.Cause(ctx), messages.Canceled, "run "+r.ID)
	}
}

// Ended reports whether the run has a last record; valid after Done.
func (r *Run) Ended() bool { return r.ended }

// Cancel ends the run for good, with class canceled.
func (r *Run) Cancel(ctx context.Context, reason string) error {
	return r.node.client.Cancel(ctx, r.ID, reason)
}
