package cluster

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// journal keeps every run's records in one stream. Each writer of a run has a
// subject for its records and one for its claims, and the server refuses an
// append that names any claim but the newest. It is safe for concurrent use.
type journal struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	pub    publisher
	// newest is the last record that was acknowledged here. Who was the leader, and
	// has not heard that another one is, may have less: see [journal.subjects].
	newest atomic.Uint64
}

// stored notes that a record was.
func (j *journal) stored(seq uint64) {
	for was := j.newest.Load(); seq > was && !j.newest.CompareAndSwap(was, seq); {
		was = j.newest.Load()
	}
}

// journalOptions: the zero value is as many replicas as the servers are good for,
// and silent retries.
type journalOptions struct {
	// Replicas of a stream that has to be made; see [Config].
	Replicas int
	Retrying retrying
}

// openJournal opens the journal on nc, and makes its stream if there is none.
// Closing nc closes it: appends that are under way then fail, class stopping.
func openJournal(ctx context.Context, nc *nats.Conn, o journalOptions) (*journal, error) {
	js, err := jetStream(nc)
	if err != nil {
		return nil, err
	}
	s, err := openStream(ctx, js, journalConfig(o.Replicas), o.Retrying)
	if err != nil {
		return nil, err
	}
	return &journal{nc: nc, js: js, stream: s, pub: publisher{nc: nc, retrying: o.Retrying}}, nil
}

// Claim implements [actors.Journal].
func (j *journal) Claim(ctx context.Context, run, name string, claim messages.Claim) (actors.Writer, error) {
	if err := checkRun(run); err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(name, "/") {
		if err := messages.CheckName("writer", part); err != nil {
			return nil, err
		}
	}
	w := &writer{j: j, run: run, name: name, node: claim.Node, subject: messages.Subject(messages.SubjectRuns, run, name)}
	subject := messages.Subject(messages.SubjectClaims, run, name)
	id := run + "/" + name + "/claim/" + nuid.Next()
	h, data, err := messages.Encode(messages.Envelope{ID: id, Run: run, Writer: name, Time: now(), Trace: traceparent(ctx), Body: &claim})
	if err != nil {
		return nil, messages.AsError(err, messages.Invalid, w.String())
	}
	ack, err := j.pub.publish(ctx, pending{
		msg: &nats.Msg{Subject: subject, Header: h, Data: data}, what: w,
		stored: func(ctx context.Context) (uint64, bool, error) { return j.find(ctx, subject, 1, id) },
	})
	if err != nil {
		return nil, err
	}
	j.stored(ack.Seq)
	w.hold(subject, ack.Seq)
	return w, nil
}

// ended returns a run's last record, a Done or a Failed that nobody has reopened,
// by what the stream's leader says; nil for a run that has not ended.
func (j *journal) ended(ctx context.Context, run string) (messages.Body, error) {
	if err := checkRun(run); err != nil {
		return nil, err
	}
	var e messages.Envelope
	err := j.pub.retrying.retry(ctx, "run "+run, func(ctx context.Context) (err error) {
		e, err = j.last(ctx, messages.Subject(messages.SubjectRuns, run, messages.PlanWriter))
		return err
	})
	switch {
	case apiCode(err) == codeNoMessage:
		return nil, nil
	case err != nil:
		return nil, err
	case ends(e.Body, false):
		return e.Body, nil
	}
	return nil, nil
}

// Purge deletes a run's claims and then its records. A node that still writes
// to the run is refused from the first of the two on.
func (j *journal) Purge(ctx context.Context, run string) error {
	if err := checkRun(run); err != nil {
		return err
	}
	for _, root := range []string{messages.SubjectClaims, messages.SubjectRuns} {
		err := j.pub.retrying.retry(ctx, "purge of run "+run, func(ctx context.Context) error {
			return guarded(ctx, j.nc, "$JS.API.STREAM.PURGE."+journalStream, func(ctx context.Context) error {
				return j.stream.Purge(ctx, jetstream.WithPurgeSubject(messages.Subject(root, run, ">")))
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func checkRun(run string) error { return messages.CheckName("run", run) }

// now is the time as it comes back from the wire: UTC, wall clock only.
func now() time.Time { return time.Now().UTC().Round(0) }
