package provider

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// Spread is how a wait is drawn around its plan, the plain backoff, so that a
// crowd that failed together does not come back together.
type Spread string

// The spreads.
const (
	// SpreadBand, the default: uniform in [1-Jitter, 1+Jitter] times the plan.
	SpreadBand Spread = "band"
	// SpreadFull: uniform between nothing and the plan.
	SpreadFull Spread = "full"
	// SpreadEqual: half the plan, and up to as much again.
	SpreadEqual Spread = "equal"
	// SpreadAdd: the plan, and up to Initial more.
	SpreadAdd Spread = "add"
)

// RetryConfig says how a failed call is made again. The zero value makes up to
// 4 attempts, with waits of about 1, 2 and 4 seconds.
type RetryConfig struct {
	// Name is the model, in events and errors.
	Name string
	// Attempts is how many there are in all, the first one included. Zero: 4.
	// 1: no retry.
	Attempts int
	// Initial is the first wait before jitter. Zero: 1 s.
	Initial time.Duration
	// Factor multiplies from one wait to the next. Zero: 2. At least 1.
	Factor float64
	// Spread is how jitter is drawn. "": SpreadBand.
	Spread Spread
	// Jitter is SpreadBand's share. Zero: 0.5. At most 1. Negative: no jitter, of
	// any spread.
	Jitter float64
	// MaxWait caps one wait, jitter and the server's Retry-After included. Zero:
	// 60 s.
	MaxWait time.Duration
	// MaxTotal caps the sum of the waits of one call; a wait that would pass it
	// is not begun. Zero: 2 minutes.
	MaxTotal time.Duration
	// AttemptTimeout bounds one attempt from its start to its last chunk; what
	// runs over it fails with class timeout and is retried. Zero: no bound but
	// the caller's.
	AttemptTimeout time.Duration
	// Classes are the classes of failure after which another attempt is made.
	// nil: transient, throttled and timeout. What has no class, and what another
	// attempt cannot change (invalid, crashed, canceled, budget ...), never is
	// retried.
	Classes []messages.Class
	// Longer multiplies the plan of the wait after a failure of a class. nil: 2
	// for throttled. From 1 to 100.
	Longer map[messages.Class]float64
	// Adaptive changes the number of attempts and the waits with the share of
	// calls that succeed. nil: they stay.
	Adaptive *Adaptive
	// Before is called before each attempt but the first, after its wait: to wait
	// for a rate limit. Its error ends the call. nil: nothing.
	Before func(ctx context.Context, req *Request, attempt int) error
	// Clock measures waits. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each attempt's end ([messages.ProviderAttempt]), and of
	// each failed one that another follows (ProviderRetry). It must not block.
	// nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c RetryConfig) Check() error {
	switch {
	case c.Attempts < 0:
		return badField("retry", "attempts", c.Attempts, "a number of at least 1, or 0 for 4")
	case c.Initial < 0:
		return badField("retry", "initial", c.Initial, "a positive duration, or 0 for 1s")
	case c.Factor != 0 && !within(c.Factor, 1, math.MaxFloat64):
		return badField("retry", "factor", c.Factor, "a number of at least 1, or 0 for 2")
	case !slices.Contains([]Spread{"", SpreadBand, SpreadFull, SpreadEqual, SpreadAdd}, c.Spread):
		return badField("retry", "spread", c.Spread, "band, full, equal or add")
	case c.Jitter > 1 || math.IsNaN(c.Jitter):
		return badField("retry", "jitter", c.Jitter, "at most 1; 0 for 0.5, negative for none")
	case c.MaxWait < 0:
		return badField("retry", "max_wait", c.MaxWait, "a positive duration, or 0 for 60s")
	case c.MaxTotal < 0:
		return badField("retry", "max_total", c.MaxTotal, "a positive duration, or 0 for 2m")
	case c.AttemptTimeout < 0:
		return badField("retry", "attempt_timeout", c.AttemptTimeout, "a positive duration, or 0 for none")
	}
	for class, f := range c.Longer {
		if !class.Valid() || !within(f, 1, 100) {
			return badField("retry", "longer", string(class)+": "+format(f), "a class, and a number from 1 to 100")
		}
	}
	return checkClasses("retry", "classes", c.Classes, canRetry)
}

// canRetry reports whether another attempt could change a failure of a class.
func canRetry(c messages.Class) bool {
	switch c {
	case messages.Transient, messages.Throttled, messages.Timeout, messages.Unavailable,
		messages.Unauthorized, messages.Quota, messages.Malformed:
		return true
	}
	return false
}

var (
	defaultRetried = []messages.Class{messages.Transient, messages.Throttled, messages.Timeout}
	defaultLonger  = map[messages.Class]float64{messages.Throttled: 2}
)

func (c RetryConfig) withDefaults() RetryConfig {
	if c.Attempts == 0 {
		c.Attempts = 4
	}
	if c.Initial == 0 {
		c.Initial = time.Second
	}
	if c.Factor == 0 {
		c.Factor = 2
	}
	if c.Spread == "" {
		c.Spread = SpreadBand
	}
	if c.Jitter == 0 {
		c.Jitter = 0.5
	}
	if c.MaxWait == 0 {
		c.MaxWait = time.Minute
	}
	if c.MaxTotal == 0 {
		c.MaxTotal = 2 * time.Minute
	}
	if c.Classes == nil {
		c.Classes = defaultRetried
	}
	if c.Longer == nil {
		c.Longer = defaultLonger
	}
	if c.Clock == nil {
		c.Clock = clockwork.NewRealClock()
	}
	return c
}
