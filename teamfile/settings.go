package teamfile

import (
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/supervisor"
)

// Stack returns the middlewares' configuration. What the file leaves out has
// the defaults of package provider.
func (p Provider) Stack() provider.StackConfig {
	c := provider.StackConfig{Queue: provider.QueueConfig{Concurrency: p.Concurrency}}
	if p.Waiting != nil {
		if c.Queue.Waiting = *p.Waiting; c.Queue.Waiting == 0 {
			c.Queue.Waiting = -1
		}
	}
	if r := p.Retry; r != nil {
		c.Retry = provider.RetryConfig{
			Attempts: r.Attempts, Initial: time.Duration(r.Initial), Factor: r.Factor, Jitter: orNone(r.Jitter),
			MaxWait: time.Duration(r.Max), MaxTotal: time.Duration(r.Total), AttemptTimeout: time.Duration(r.Attempt),
		}
	}
	if b := p.Breaker; b != nil {
		c.Breaker = provider.BreakerConfig{Failures: b.Failures, OpenFor: time.Duration(b.OpenFor), Successes: b.Successes}
	}
	return c
}

// Policy returns the supervisor's policy; of nil, the default one.
func (s *Supervision) Policy() supervisor.Policy {
	if s == nil {
		return supervisor.Policy{}
	}
	p := supervisor.Policy{
		Strategy: s.Strategy, Intensity: s.Intensity, Within: time.Duration(s.Within), Spent: s.Spent, OnClass: s.OnClass,
	}
	if b := s.Backoff; b != nil {
		p.Backoff = supervisor.Backoff{Initial: orNever(b.Initial), Factor: b.Factor, Max: time.Duration(b.Max), Jitter: orNone(b.Jitter)}
	}
	return p
}

// orNone and orNever translate a zero that somebody wrote into the negative
// value that says so in Go, where zero is the default.
func orNone(f *float64) float64 {
	switch {
	case f == nil:
		return 0
	case *f == 0:
		return -1
	}
	return *f
}

func orNever(d *Duration) time.Duration {
	switch {
	case d == nil:
		return 0
	case *d == 0:
		return -1
	}
	return time.Duration(*d)
}
