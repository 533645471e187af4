package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream's error codes that jetstream does not name.
const (
	codeNoPeers            = 10005 // fewer servers up than replicas
	codeNotAvailable       = 10008 // no leader at the moment
	codeNoMessage          = 10037
	codeNoSequence         = 10043
	codeNotEnabledAccount  = 10039
	codeTooLarge           = 10054
	codeNotDeleted         = 10057
	codeNoCluster          = 10074 // replicas on a server alone
	codeNotEnabled         = 10076
	codeDuplicateInProcess = 10158
	codeInProcess          = 10164 // another append under the same claim is in flight
)

// attemptTimeout bounds one try. A leader's election loses requests without an
// answer, and takes up to 8.5 s; tries repeat through it.
const attemptTimeout = 2 * time.Second

// retrying is told of every failed try that will be repeated: what, the number
// of the try from 1, and why. It must not block. nil is allowed.
type retrying func(what string, attempt int, err error)

// listTimeout bounds one try to list what may be very long.
const listTimeout = 30 * time.Second

// retry calls try, each time with a context of its own that ends within
// [attemptTimeout], until it succeeds, fails for good or ctx ends.
func (r retrying) retry(ctx context.Context, what string, try func(context.Context) error) error {
	return r.retryWithin(ctx, attemptTimeout, what, try)
}

// retryWithin is retry with another bound for one try.
func (r retrying) retryWithin(ctx context.Context, limit time.Duration, what string, try func(context.Context) error) error {
	first := time.Now()
	for attempt := 1; ; attempt++ {
		tctx, cancel := context.WithTimeout(ctx, limit)
		err := try(tctx)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && !passes(err) {
			return classed(err, what)
		}
		if err := r.pause(ctx, what, attempt, first, err); err != nil {
			return err
		}
	}
}

// pause waits before try number attempt+1. Its error means that ctx has ended.
func (r retrying) pause(ctx context.Context, what string, attempt int, first time.Time, cause error) error {
	if r != nil && ctx.Err() == nil {
		r(what, attempt, cause)
	}
	t := time.NewTimer(backoff(attempt, cause))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		class := messages.ClassOf(ctx.Err())
		waited := time.Since(first).Round(time.Millisecond)
		if errors.Is(cause, ctx.Err()) {
			return messages.Errorf(class, what, "given up after %v: %w", waited, ctx.Err())
		}
		return messages.Errorf(class, what, "given up after %v and %d tries: %w (the last try: %v)", waited, attempt, ctx.Err(), cause)
	}
}

// backoff is 2 ms and up where another append was just in the way, else 10 ms
// and up; doubled each time, at most 1 s, ±50 %.
func backoff(attempt int, cause error) time.Duration {
	d := 10 * time.Millisecond
	if c := apiCode(cause); c == codeInProcess || c == codeDuplicateInProcess {
		d = 2 * time.Millisecond
	}
	d = min(d<<min(attempt-1, 10), time.Second)
	return d/2 + rand.N(d)
}

// passes reports whether err may go away by itself: no answer, no connection,
// no leader, another append in flight.
func passes(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case codeInProcess, codeDuplicateInProcess, codeNotAvailable, codeNoPeers:
			return true
		case codeNotEnabled, codeNotEnabledAccount:
			return false
		}
		return api.Code == 503
	}
	if e := (*messages.Error)(nil); errors.As(err, &e) {
		return false
	}
	for _, final := range []error{
		nats.ErrConnectionClosed, nats.ErrConnectionDraining, nats.ErrMaxPayload, nats.ErrInvalidConnection,
		nats.ErrBadSubject, nats.ErrHeadersNotSupported, nats.ErrInvalidMsg, context.Canceled,
		messages.ErrVersion, messages.ErrKind, messages.ErrWire,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	var syntax *json.SyntaxError
	return !errors.As(err, &syntax)
}

// classed gives an error that does not pass its class.
func classed(err error, what string) error {
	switch {
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return messages.Errorf(messages.Stopping, what, "this node's connection is closed: %w", err)
	case isNewer(err):
		return messages.AsError(fmt.Errorf("%w; a newer node can read it", err), messages.Unavailable, what)
	case errors.Is(err, messages.ErrWire):
		return messages.AsError(err, messages.Invalid, what)
	case apiCode(err) == codeNotEnabled, apiCode(err) == codeNotEnabledAccount, errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return messages.Errorf(messages.Invalid, what, "the NATS server has no JetStream here; start it with -js, or enable it for this account: %w", err)
	case apiCode(err) != 0:
		return messages.Errorf(messages.Invalid, what, "JetStream refuses: %w", err)
	}
	return messages.AsError(err, messages.Unavailable, what)
}

// apiCode returns the JetStream error code in err, 0 for none.
func apiCode(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}
