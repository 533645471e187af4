package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// batchRecords and batchBytes bound one batched get.
	batchRecords = 1000
	batchBytes   = 8 << 20
	// consumerAbove is the number of records from which on a consumer reads
	// faster than batched gets.
	consumerAbove = 5000
)

// Read implements [actors.Journal]. It waits within ctx for a journal that is
// away. A record that this program cannot read fails it: with
// [messages.ErrVersion] or [messages.ErrKind] (class unavailable) when a newer
// program wrote it, with [messages.ErrWire] (class invalid) when it is damaged.
func (j *journal) Read(ctx context.Context, run string) ([]messages.Envelope, error) {
	if err := checkRun(run); err != nil {
		return nil, err
	}
	r := reading{j: j, filter: messages.Subject(messages.SubjectRuns, run, ">")}
	for attempt, first := 1, time.Now(); ; attempt++ {
		err := r.once(ctx)
		switch {
		case err == nil:
			return r.records, nil
		case ctx.Err() == nil && !passes(err):
			return nil, classed(err, "run "+run)
		}
		if err := j.pub.retrying.pause(ctx, "reading run "+run, attempt, first, err); err != nil {
			return nil, err
		}
	}
}

// reading is one Read in progress; it keeps what it has over retries.
type reading struct {
	j       *journal
	filter  string
	records []messages.Envelope
	last    uint64 // the sequence of the last of them
}

// errBehind: the replica that answered lacks records that the leader has.
var errBehind = errors.New("a replica is behind")

// once reads on from what it has, and fails with errBehind if that is less than
// what the leader counts.
func (r *reading) once(ctx context.Context) error {
	tctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	total, err := r.j.count(tctx, r.filter)
	cancel()
	if err != nil || total <= len(r.records) {
		return err
	}
	if total-len(r.records) > consumerAbove {
		err = r.consume(ctx, total)
	} else {
		err = r.batches(ctx, total)
	}
	if err == nil && len(r.records) < total {
		return fmt.Errorf("%w: %d of %d records", errBehind, len(r.records), total)
	}
	return err
}

func (r *reading) batches(ctx context.Context, total int) error {
	if r.records == nil {
		r.records = make([]messages.Envelope, 0, total)
	}
	for len(r.records) < total {
		// Never more than there are: past the last one the server would search on
		// through the whole stream.
		batch := min(total-len(r.records), batchRecords)
		n, err := getBatch(ctx, r.j.nc, journalStream, getRequest{Seq: r.last + 1, Next: r.filter, Batch: batch, MaxBytes: batchBytes},
			func(m *nats.Msg, seq uint64) error { return r.add(m.Header, m.Data, seq) })
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

func (r *reading) consume(ctx context.Context, total int) error {
	c, err := r.j.ordered(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{r.filter}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.last + 1,
	})
	if err != nil {
		return err
	}
	it, err := c.Messages()
	if err != nil {
		return err
	}
	defer it.Stop()
	for len(r.records) < total {
		tctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		m, err := it.Next(jetstream.NextContext(tctx))
		cancel()
		if err != nil {
			return err
		}
		if err := r.addMsg(m); err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) addMsg(m jetstream.Msg) error {
	md, err := m.Metadata()
	if err != nil {
		return err
	}
	return r.add(m.Headers(), m.Data(), md.Sequence.Stream)
}

func (r *reading) add(h nats.Header, data []byte, seq uint64) error {
	if seq <= r.last {
		return nil
	}
	e, err := decodeRecord(h, data, seq)
	if err != nil {
		return err
	}
	r.records, r.last = append(r.records, e), seq
	return nil
}

// ordered makes a consumer that reads the journal in its order.
func (j *journal) ordered(ctx context.Context, cfg jetstream.OrderedConsumerConfig) (c jetstream.Consumer, err error) {
	err = guarded(ctx, j.nc, "$JS.API.CONSUMER.CREATE."+journalStream+".>", func(ctx context.Context) (err error) {
		c, err = j.js.OrderedConsumer(ctx, journalStream, cfg)
		return err
	})
	return c, err
}

// count asks the leader how many records match the filter.
func (j *journal) count(ctx context.Context, filter string) (int, error) {
	subjects, err := j.subjects(ctx, filter)
	n := 0
	for _, c := range subjects {
		n += int(c)
	}
	return n, err
}

// subjects lists the subjects that match the filter, with their records.
func (j *journal) subjects(ctx context.Context, filter string) (map[string]uint64, error) {
	var info *jetstream.StreamInfo
	err := guarded(ctx, j.nc, "$JS.API.STREAM.INFO."+journalStream, func(ctx context.Context) (err error) {
		info, err = j.stream.Info(ctx, jetstream.WithSubjectFilter(filter))
		return err
	})
	if err != nil {
		return nil, err
	}
	if have := j.newest.Load(); info.State.LastSeq < have {
		return nil, fmt.Errorf("%w: it ends at sequence %d, and %d was acknowledged", errBehind, info.State.LastSeq, have)
	}
	return info.State.Subjects, nil
}
