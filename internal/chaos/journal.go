package chaos

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	covey "github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/internal/certs"
	"github.com/covey-run/covey/messages"
)

// What the kit looks at on NATS, by its name there: it does not go through the
// programs under test.
const (
	journalStream = "COVEY_JOURNAL"
	taskStream    = "COVEY_TASKS"
	leaseBucket   = "COVEY_NODES"
)

// record is a message in the journal: a claim, or a record of a run.
type record struct {
	messages.Envelope
	// stored is when the NATS server stored it.
	stored time.Time
}

// claim returns the claim that the record is, nil for none.
func (r record) claim() *messages.Claim {
	c, _ := r.Body.(*messages.Claim)
	return c
}

// under is the sequence of the claim that a record was written under, by its
// message id.
func (r record) under() (uint64, error) {
	rest, found := strings.CutPrefix(r.ID, r.Run+"/"+r.Writer+"/")
	seq, _, cut := strings.Cut(rest, "/")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !found || !cut || err != nil {
		return 0, messages.Errorf(messages.Invalid, "journal", "record %d of run %s: its message id %q names no claim", r.Seq, r.Run, r.ID)
	}
	return n, nil
}

// journal is the stream, read from outside.
type journal struct {
	js jetstream.JetStream
}

// follow gives every message after the sequence from to each, in order, and then
// new ones as they come, until ctx ends or each returns false. It outlives the
// server's restarts; the error is that of a message which cannot be read, or
// ctx's.
func (j journal) follow(ctx context.Context, from uint64, each func(record) bool) error {
	for {
		err := j.consume(ctx, &from, each)
		var bad *messages.Error
		if err == nil || errors.As(err, &bad) {
			return err
		}
		select {
		case <-ctx.Done():
			return messages.AsError(context.Cause(ctx), messages.Timeout, "journal")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// silence is for how long a consumer may give nothing until it is made anew.
const silence = 3 * time.Second

// consume is follow, until the consumer fails or has nothing for a while. from
// becomes the last sequence that was given.
func (j journal) consume(ctx context.Context, from *uint64, each func(record) bool) error {
	make, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	c, err := j.js.OrderedConsumer(make, journalStream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: *from + 1,
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
		next, cancel := context.WithTimeout(ctx, silence)
		m, err := it.Next(jetstream.NextContext(next))
		cancel()
		if err != nil {
			return err
		}
		md, err := m.Metadata()
		if err != nil {
			return err
		}
		if md.Sequence.Stream <= *from {
			continue
		}
		e, err := messages.Decode(m.Headers(), m.Data())
		if err != nil {
			return messages.Errorf(messages.Invalid, "journal", "sequence %d: %w", md.Sequence.Stream, err)
		}
		*from, e.Seq = md.Sequence.Stream, md.Sequence.Stream
		if !each(record{Envelope: e, stored: md.Timestamp}) {
			return nil
		}
	}
}

// all reads what is in the journal now.
func (j journal) all(ctx context.Context) ([]record, error) {
	s, err := j.js.Stream(ctx, journalStream)
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "journal")
	}
	last := s.CachedInfo().State.LastSeq
	var records []record
	if last == 0 {
		return nil, nil
	}
	err = j.follow(ctx, 0, func(r record) bool {
		records = append(records, r)
		return r.Seq < last
	})
	return records, err
}

// queued is how many tasks are in the queue, those that a node holds included.
func (j journal) queued(ctx context.Context) (uint64, error) {
	s, err := j.js.Stream(ctx, taskStream)
	if err != nil {
		return 0, messages.AsError(err, messages.Unavailable, "task queue")
	}
	return s.CachedInfo().State.Msgs, nil
}

// leases returns the names of the nodes that have a lease.
func (j journal) leases(ctx context.Context) ([]string, error) {
	kv, err := j.js.KeyValue(ctx, leaseBucket)
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "leases")
	}
	names, err := kv.Keys(ctx)
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil
	}
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "leases")
	}
	return names, nil
}

// dial connects the kit to NATS, for ever.
func dial(url string, show covey.Credentials) (*nats.Conn, jetstream.JetStream, error) {
	opts := []nats.Option{
		nats.Name("covey chaos"), nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond),
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(3), nats.RetryOnFailedConnect(true),
	}
	if show.NKeyFile != "" {
		key, err := certs.PublicKey("nkey", show.NKeyFile)
		if err != nil {
			return nil, nil, err
		}
		seed, err := nats.NkeyOptionFromSeed(show.NKeyFile)
		if err != nil {
			return nil, nil, messages.Errorf(messages.Invalid, "NATS", "%w", err)
		}
		opts = append(opts, seed, nats.RootCAs(show.CA), nats.CustomInboxPrefix(certs.InboxPrefix(key)))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, nil, messages.Errorf(messages.Unavailable, "NATS", "%w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, messages.Errorf(messages.Invalid, "NATS", "%w", err)
	}
	return nc, js, nil
}

// history is what the journal says of one run.
type history struct {
	run          string
	begun, ended time.Time // when its first and its last record were stored
	answer       *messages.Answer
	failure      *messages.Error
	// claims are those of each writer, in order; records the times of its
	// records.
	claims  map[string][]claimed
	records []time.Time
	models  map[call]int
	intents map[string]*messages.Intent // by key
	results map[string]*messages.Result // by the intent's key
}

// claimed is one claim.
type claimed struct {
	node string
	at   time.Time
}

// call names a model call of a run: the n-th of its writer, from 0, over all of
// its steps.
type call struct {
	run, writer string
	n           int
}

// histories sorts the journal by runs.
func histories(records []record) map[string]*history {
	all := map[string]*history{}
	type at struct {
		writer, step string
		n, call      int
	}
	keys := map[string]map[at]string{}
	for _, r := range records {
		h := all[r.Run]
		if h == nil {
			h = &history{
				run: r.Run, claims: map[string][]claimed{}, models: map[call]int{},
				intents: map[string]*messages.Intent{}, results: map[string]*messages.Result{},
			}
			all[r.Run], keys[r.Run] = h, map[at]string{}
		}
		if c := r.claim(); c != nil {
			h.claims[r.Writer] = append(h.claims[r.Writer], claimed{c.Node, r.stored})
			continue
		}
		h.records = append(h.records, r.stored)
		switch b := r.Body.(type) {
		case *messages.Begun:
			h.begun = r.stored
		case *messages.Done:
			h.ended, h.answer = r.stored, &b.Answer
		case *messages.Failed:
			h.ended, h.failure = r.stored, b.Error
		case *messages.Modeled:
			h.models[call{r.Run, r.Writer, b.N}]++
		case *messages.Intent:
			h.intents[b.Key] = b
			keys[r.Run][at{r.Writer, r.Step, b.N, b.Call}] = b.Key
		case *messages.Result:
			h.results[keys[r.Run][at{r.Writer, r.Step, b.N, b.Call}]] = b
		}
	}
	return all
}

// over reports whether the run has its last record.
func (h *history) over() bool { return h.answer != nil || h.failure != nil }

// by reports whether a node owned a writer of the run at a moment.
func (h *history) by(node string, at time.Time) bool {
	for _, claims := range h.claims {
		owner := ""
		for _, c := range claims {
			if c.at.After(at) {
				break
			}
			owner = c.node
		}
		if owner == node {
			return true
		}
	}
	return false
}

// takeovers is how often the run was taken over: the claims of its plan but the
// first.
func (h *history) takeovers() int { return max(len(h.claims[messages.PlanWriter])-1, 0) }

// pause is the time from a moment to the run's next record; false if the run had
// not begun then, or has none after it.
func (h *history) pause(at time.Time) (time.Duration, bool) {
	if h.begun.IsZero() || h.begun.After(at) {
		return 0, false
	}
	for _, r := range h.records {
		if r.After(at) {
			return r.Sub(at), true
		}
	}
	return 0, false
}

func (h *history) String() string { return fmt.Sprintf("run %s", h.run) }
