package cluster

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go/jetstream"
)

// Follow yields a run's records, those that are there and then new ones as they
// come, up to and with its Done, or a Failed that nobody has reopened yet. A run
// that has not begun is waited for. The one error that it may yield is its last element: ctx's end, or a
// record that cannot be read (see Read).
func (j *journal) Follow(ctx context.Context, run string) iter.Seq2[messages.Envelope, error] {
	return func(yield func(messages.Envelope, error) bool) {
		if err := checkRun(run); err != nil {
			yield(messages.Envelope{}, err)
			return
		}
		f := following{j: j, run: run, yield: yield}
		for attempt, first := 1, time.Now(); ; attempt++ {
			before := f.last
			err := f.consume(ctx)
			switch {
			case err == nil:
				return
			case ctx.Err() == nil && !passes(err) && !errors.Is(err, jetstream.ErrMsgIteratorClosed):
				yield(messages.Envelope{}, classed(err, "run "+run))
				return
			case f.last != before:
				attempt, first = 1, time.Now()
			}
			if err := j.pub.retrying.pause(ctx, "following run "+run, attempt, first, err); err != nil {
				yield(messages.Envelope{}, err)
				return
			}
		}
	}
}

type following struct {
	j     *journal
	run   string
	yield func(messages.Envelope, error) bool
	last  uint64 // the last sequence that was yielded
}

// consume yields what follows f.last. nil means that there is no more to do.
func (f *following) consume(ctx context.Context) error {
	c, err := f.j.ordered(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{messages.Subject(messages.SubjectRuns, f.run, ">")},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.last + 1,
	})
	if err != nil {
		return err
	}
	it, err := c.Messages()
	if err != nil {
		return err
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		md, err := m.Metadata()
		if err != nil {
			return err
		}
		if md.Sequence.Stream <= f.last {
			continue
		}
		e, err := decodeRecord(m.Headers(), m.Data(), md.Sequence.Stream)
		if err != nil {
			return err
		}
		f.last = e.Seq
		if !f.yield(e, nil) || ends(e.Body, md.NumPending > 0) {
			return nil
		}
	}
}

// ends reports whether a record is a run's last; more says that others follow
// it.
func ends(b messages.Body, more bool) bool {
	switch b.(type) {
	case *messages.Done:
		return true
	case *messages.Failed:
		return !more
	}
	return false
}
