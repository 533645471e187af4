package provider

import (
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/covey-run/covey/messages"
)

// waits are the waits of one call, one after the other.
type waits struct {
	cfg  *RetryConfig
	plan *backoff.ExponentialBackOff
}

func newWaits(cfg *RetryConfig, initial time.Duration) *waits {
	return &waits{cfg, &backoff.ExponentialBackOff{
		InitialInterval: min(initial, cfg.MaxWait),
		Multiplier:      cfg.Factor,
		MaxInterval:     cfg.MaxWait,
	}}
}

// next returns the wait after a failure: the plan, longer for its class, spread,
// raised to what the server asked for, and capped. Jitter is part of each of
// these, so that callers which heard the same Retry-After, or met the cap, do
// not wait the same.
func (w *waits) next(class messages.Class, asked time.Duration) time.Duration {
	c := w.cfg
	plan := float64(w.plan.NextBackOff())
	if f, ok := c.Longer[class]; ok {
		plan *= f
	}
	wait := plan
	if c.Jitter >= 0 {
		switch c.Spread {
		case SpreadFull:
			wait = plan * rand.Float64()
		case SpreadEqual:
			wait = plan * (0.5 + rand.Float64()/2)
		case SpreadAdd:
			wait = plan + float64(c.Initial)*rand.Float64()
		default:
			wait = plan * (1 + c.Jitter*(2*rand.Float64()-1))
		}
	}
	if least := float64(asked); wait < least {
		wait = least
		if c.Jitter >= 0 {
			wait += float64(c.Initial) * rand.Float64()
		}
	}
	if most := float64(c.MaxWait); wait > most {
		wait = most
		if c.Jitter >= 0 {
			wait -= most / 10 * rand.Float64()
		}
	}
	return time.Duration(wait)
}
