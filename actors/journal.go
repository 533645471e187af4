package actors

import (
	"context"

	"github.com/covey-run/covey/messages"
)

// Journal is where runs are stored; package cluster implements it on JetStream.
type Journal interface {
	// Claim takes a run's writer over: from here on every older [Writer] of the
	// same run and name is refused. It waits, within ctx, for a journal that is
	// briefly away.
	Claim(ctx context.Context, run, writer string, claim messages.Claim) (Writer, error)
	// Read returns a run's records of all writers, claims left out, in the
	// journal's order; none for a run that is not there. What was appended
	// before the call is in it.
	Read(ctx context.Context, run string) ([]messages.Envelope, error)
}

// Writer appends to one subject of one run under one claim. It is safe for
// concurrent use.
type Writer interface {
	// Append makes body durable and returns its envelope. It retries under the
	// same message id while the journal is away, until ctx ends. An error of
	// class [messages.Fenced] means that somebody else owns the writer now: stop
	// at once, do nothing more in the run's name.
	Append(ctx context.Context, step string, body messages.Body) (messages.Envelope, error)
}

// Bus carries collaboration messages between the members of a run, wherever
// they live; package cluster implements it on NATS.
type Bus interface {
	// Serve has handle called with every message for that member of that run,
	// until stop is called. handle must not block: it hands over to a mailbox.
	Serve(run, member string, handle func(messages.Envelope)) (stop func(), err error)
	// Send returns nil once the member's node has taken the message. It fails
	// with class unavailable, at once, when nobody serves the member, and with
	// timeout at ctx's end. A message may arrive twice: asks and replies carry
	// their step, and a step is answered once.
	Send(ctx context.Context, run, member string, e messages.Envelope) error
	// Offer is Send to a program outside of Covey, by its name.
	Offer(ctx context.Context, program string, e messages.Envelope) error
}
