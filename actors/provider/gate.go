package provider

import (
	"context"
	"time"

	"github.com/covey-run/covey/messages"
)

// Gate shares the openings of breakers with other nodes. A [Breaker] without one
// is alone. Package cluster implements it over NATS.
//
// None of the methods may fail a call: a gate that cannot reach the others
// leaves its breaker alone, and grants it its probe.
type Gate interface {
	// Opened tells the others that the breaker of a name opened because of cause,
	// and half-opens at until. It does not block.
	Opened(name string, until time.Time, cause *messages.Error)
	// Closed tells them that it is closed again. It does not block.
	Closed(name string)
	// Probe asks for the one probe that all nodes together may make once the
	// opening that ends at until is over. When it is granted the holder calls
	// release exactly once, with whether the probe succeeded; refused, release is
	// nil. It answers within ctx, at most about 100 ms.
	Probe(ctx context.Context, name string, until time.Time) (release func(ok bool), granted bool)
}
