package cluster

import (
	"context"
	"strconv"
	"sync/atomic"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// writer appends to one subject under one claim. Everything but n and last is
// set before its first use.
type writer struct {
	j               *journal
	run, name, node string
	subject         string
	claimSubject    string
	claim           uint64
	// The two headers of the fence, shared by every append; never changed.
	expectSeq, expectSubject []string
	// prefix starts every message id of this claim.
	prefix string

	n    atomic.Uint64 // appends so far
	last atomic.Uint64 // the sequence of an append that was acknowledged, the claim's at first
}

// hold makes claim the one that w writes under.
func (w *writer) hold(claimSubject string, claim uint64) {
	seq := strconv.FormatUint(claim, 10)
	w.claimSubject, w.claim = claimSubject, claim
	w.expectSeq, w.expectSubject = []string{seq}, []string{claimSubject}
	w.prefix = w.run + "/" + w.name + "/" + seq + "/"
	w.last.Store(claim)
}

// String names the writer in errors.
func (w *writer) String() string { return "journal: run " + w.run + ", writer " + w.name }

// Append implements [actors.Writer]. When ctx ends it is not known whether the
// record is stored: read the run.
func (w *writer) Append(ctx context.Context, step string, body messages.Body) (messages.Envelope, error) {
	e := messages.Envelope{
		ID: w.prefix + strconv.FormatUint(w.n.Add(1), 10), Run: w.run, Writer: w.name, Step: step,
		Time: now(), Trace: traceparent(ctx), Body: body,
	}
	h, data, err := messages.Encode(e)
	if err != nil {
		return messages.Envelope{}, messages.AsError(err, messages.Invalid, w.String())
	}
	h[jetstream.ExpectedLastSubjSeqHeader] = w.expectSeq
	h[jetstream.ExpectedLastSubjSeqSubjHeader] = w.expectSubject
	from := w.last.Load() + 1
	ack, err := w.j.pub.publish(ctx, pending{
		msg: &nats.Msg{Subject: w.subject, Header: h, Data: data}, what: w, refused: w.refused,
		stored: func(ctx context.Context) (uint64, bool, error) { return w.j.find(ctx, w.subject, from, e.ID) },
	})
	if err != nil {
		return messages.Envelope{}, err
	}
	w.last.Store(ack.Seq)
	w.j.stored(ack.Seq)
	e.Seq = ack.Seq
	return e, nil
}

// purgedAfter is how many refusals without any claim to be found make a purged
// run: a server that is closing its store finds nothing either, briefly.
const purgedAfter = 8

// refused looks who owns the writer now. nil means: we still do, as far as the
// journal can say, so try again.
func (w *writer) refused(ctx context.Context, attempt int, cause error) error {
	e, err := w.j.last(ctx, w.claimSubject)
	switch {
	case apiCode(err) == codeNoMessage && attempt >= purgedAfter:
		return messages.Errorf(messages.Fenced, w.String(), "node %q may write no more, for its claim is gone: the run was purged (%w)", w.node, cause)
	case err != nil || e.Seq == w.claim:
		return nil
	}
	by := "somebody else"
	if c, ok := e.Body.(*messages.Claim); ok {
		by = "node " + strconv.Quote(c.Node)
		if c.Node == w.node {
			by += " itself, anew,"
		}
	}
	return messages.Errorf(messages.Fenced, w.String(), "node %q may write no more: %s has taken it over, %s (claim %d, ours was %d): %w",
		w.node, by, e.Time.Format("2006-01-02 15:04:05.000Z07:00"), e.Seq, w.claim, cause)
}
