package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// dedupWindow is how long JetStream remembers message ids: a try repeated within
// it is stored once.
const dedupWindow = 2 * time.Minute

// pubAck is JetStream's answer to a publish.
type pubAck struct {
	Error     *jetstream.APIError `json:"error"`
	Stream    string              `json:"stream"`
	Seq       uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
}

// publisher stores messages in a stream, each exactly once by its message id.
type publisher struct {
	nc       *nats.Conn
	retrying retrying
}

// pending is one message on its way into a stream.
type pending struct {
	msg *nats.Msg
	// what names it in errors; only called when there is one.
	what fmt.Stringer
	// refused says what a refusal (10071, wrong last sequence) means: nil to try
	// again, else the error to return. nil means that refusals are returned.
	refused func(ctx context.Context, attempt int, err error) error
	// stored looks in the stream for a try that was stored without our knowing,
	// for the time when JetStream has forgotten the message id.
	stored func(ctx context.Context) (seq uint64, found bool, err error)
}

// publish returns once p is stored. It tries again, under the same message id,
// while the stream is away, until ctx ends; then it is not known whether p is
// stored.
func (p *publisher) publish(ctx context.Context, m pending) (pubAck, error) {
	first := time.Now()
	for attempt := 1; ; attempt++ {
		a, err := p.try(ctx, m, first)
		if err == nil {
			return a, nil
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, nats.ErrMaxPayload), apiCode(err) == codeTooLarge:
			return pubAck{}, messages.Errorf(messages.Invalid, m.what.String(), "message of %d bytes is too large, the server takes up to %d: %w",
				m.msg.Size(), p.nc.MaxPayload(), err)
		case apiCode(err) == jetstream.JSErrCodeStreamWrongLastSequence && m.refused != nil:
			if err := m.refused(ctx, attempt, err); err != nil {
				return pubAck{}, err
			}
		case !passes(err):
			return pubAck{}, classed(err, m.what.String())
		}
		if err := p.retrying.pause(ctx, m.what.String(), attempt, first, err); err != nil {
			return pubAck{}, err
		}
	}
}

func (p *publisher) try(ctx context.Context, m pending, first time.Time) (pubAck, error) {
	tctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if m.stored != nil && time.Since(first) > dedupWindow*3/4 {
		if seq, found, err := m.stored(tctx); found || err != nil {
			return pubAck{Seq: seq, Duplicate: true}, err
		}
	}
	var r *nats.Msg
	err := guarded(tctx, p.nc, m.msg.Subject, func(ctx context.Context) (err error) {
		r, err = p.nc.RequestMsgWithContext(ctx, m.msg)
		return err
	})
	if err != nil {
		return pubAck{}, err
	}
	var a pubAck
	switch err := json.Unmarshal(r.Data, &a); {
	case err != nil:
		return a, fmt.Errorf("not JetStream's answer: %w", err)
	case a.Error != nil:
		return a, a.Error
	case a.Stream == "":
		return a, fmt.Errorf("not JetStream's answer: %w", nats.ErrInvalidMsg)
	}
	return a, nil
}
