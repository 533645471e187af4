package provider

import (
	"time"
)

// Stack returns the configuration of a provider's stack: base with everything
// that the levels say, for every type of call too. What settings cannot say
// (functions, clocks, names) stays as base has it.
func (r *Resolver) Stack(name string, base StackConfig) (StackConfig, error) {
	e, err := r.Resolve(name, "", nil)
	if err != nil {
		return base, err
	}
	cfg := base
	s := e.Settings
	q := s.Queue
	cfg.Queue.Off = !*q.On
	cfg.Queue.Concurrency, cfg.Queue.Waiting = or(q.Concurrency, 0), orNegative(q.Waiting)
	cfg.Queue.AgeEvery = time.Duration(or(q.AgeEvery, 0))
	l := s.Limits
	cfg.Limiter.RequestsPerMinute, cfg.Limiter.RequestBurst = or(l.RequestsPerMinute, 0), or(l.RequestBurst, 0)
	cfg.Limiter.TokensPerMinute, cfg.Limiter.TokenBurst = or(l.TokensPerMinute, 0), or(l.TokenBurst, 0)
	b := s.Breaker
	cfg.Breaker.Off = !*b.On
	cfg.Breaker.Failures, cfg.Breaker.Successes = or(b.Failures, 0), or(b.Successes, 0)
	cfg.Breaker.OpenFor, cfg.Breaker.Classes = time.Duration(or(b.OpenFor, 0)), b.Classes
	if a := s.Adaptive; *a.On {
		var c AdaptiveConfig
		if base.Adaptive != nil {
			c = *base.Adaptive
		}
		c.Window, c.High, c.Low = or(a.Window, 0), or(a.High, 0), or(a.Low, 0)
		cfg.Adaptive = &c
	} else {
		cfg.Adaptive = nil
	}
	cfg.Cache, cfg.Retry = e.cache(base.Cache), e.retry(base.Retry)
	cfg.Kinds = map[string]KindConfig{}
	for kind, c := range base.Kinds {
		cfg.Kinds[kind] = c
	}
	for _, kind := range r.kinds {
		e, err := r.Resolve(name, kind, nil)
		if err != nil {
			return cfg, err
		}
		own := base.Kinds[kind]
		cfg.Kinds[kind] = KindConfig{Cache: e.cache(own.Cache), Retry: e.retry(own.Retry)}
	}
	return cfg, cfg.Check()
}

// Override returns what a call with settings of its own changes in its
// provider's stack; nil if it changes nothing there.
func (e Effective) Override(call *Settings) *Override {
	if call == nil || call.Retry == nil && call.Cache == nil {
		return nil
	}
	o := &Override{NoCache: call.Cache != nil && !*e.Settings.Cache.On}
	if call.Retry != nil {
		o.Retry = new(e.retry(RetryConfig{}))
	}
	return o
}

// Rungs are the rungs below the first, none if there is no fallback.
func (e Effective) Rungs() []string {
	if f := e.Settings.Fallback; *f.On {
		return f.Rungs
	}
	return nil
}

// Output is what judges the answers of a model, nil where nothing does.
func (e Effective) Output(base OutputConfig) *OutputConfig {
	s := e.Settings.Output
	if !*s.On {
		return nil
	}
	base.Attempts, base.Repairs = or(s.Attempts, 0), orNegative(s.Repairs)
	base.Required, base.AllowRaw = s.Required, or(s.AllowRaw, false)
	return &base
}

func (e Effective) cache(base *CacheConfig) *CacheConfig {
	s := e.Settings.Cache
	if !*s.On {
		return nil
	}
	var c CacheConfig
	if base != nil {
		c = *base
	}
	c.Size, c.TTL, c.Bytes = or(s.Size, 0), time.Duration(or(s.TTL, 0)), int64(or(s.Bytes, 0))
	c.Idempotent = or(s.Idempotent, false)
	return &c
}

func (e Effective) retry(base RetryConfig) RetryConfig {
	c, s := base, e.Settings.Retry
	c.Attempts = 1
	if !*s.On {
		return c
	}
	c.Attempts, c.Initial, c.Factor = or(s.Attempts, 0), time.Duration(or(s.Initial, 0)), or(s.Factor, 0)
	c.Spread, c.Jitter = or(s.Spread, ""), orNegative(s.Jitter)
	c.MaxWait, c.MaxTotal = time.Duration(or(s.Max, 0)), time.Duration(or(s.Total, 0))
	c.AttemptTimeout, c.Classes, c.Longer = time.Duration(or(s.AttemptTimeout, 0)), s.Classes, s.Longer
	return c
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// orNegative translates a zero that somebody wrote into the negative value that
// says so in the configs, where zero is the default.
func orNegative[T int | float64](p *T) T {
	switch {
	case p == nil:
		return 0
	case *p == 0:
		return -1
	}
	return *p
}

// SettingsOf are the settings that a configuration holds, for the level of
// code. A value that is zero is not given.
func SettingsOf(c StackConfig) Settings {
	var s Settings
	q := QueueSettings{Concurrency: given(c.Queue.Concurrency), Waiting: given(c.Queue.Waiting), AgeEvery: given(Duration(c.Queue.AgeEvery))}
	if c.Queue.Waiting < 0 {
		q.Waiting = new(0)
	}
	if c.Queue.AgeEvery < 0 { // no ageing: as long as can be
		q.AgeEvery = new(Duration(24 * time.Hour))
	}
	if c.Queue.Off {
		q.On = new(false)
	}
	if q != (QueueSettings{}) {
		s.Queue = &q
	}
	l := LimitSettings{RequestsPerMinute: given(c.Limiter.RequestsPerMinute), RequestBurst: given(c.Limiter.RequestBurst),
		TokensPerMinute: given(c.Limiter.TokensPerMinute), TokenBurst: given(c.Limiter.TokenBurst)}
	if l != (LimitSettings{}) {
		s.Limits = &l
	}
	if b := c.Breaker; b.Off || b.Failures != 0 || b.OpenFor != 0 || b.Successes != 0 || b.Classes != nil {
		s.Breaker = &BreakerSettings{Failures: given(b.Failures), OpenFor: given(Duration(b.OpenFor)), Successes: given(b.Successes), Classes: b.Classes}
		if b.Off {
			s.Breaker.On = new(false)
		}
	}
	if a := c.Adaptive; a != nil {
		s.Adaptive = &AdaptiveSettings{On: new(true), Window: given(a.Window), High: given(a.High), Low: given(a.Low)}
	}
	s.Cache, s.Retry = cacheSettings(c.Cache), retrySettings(c.Retry)
	return s
}

func cacheSettings(c *CacheConfig) *CacheSettings {
	if c == nil {
		return nil
	}
	return &CacheSettings{On: new(true), Size: given(c.Size), TTL: given(Duration(c.TTL)), Bytes: given(int(c.Bytes)), Idempotent: given(c.Idempotent)}
}

func retrySettings(r RetryConfig) *RetrySettings {
	s := RetrySettings{
		Attempts: given(r.Attempts), Initial: given(Duration(r.Initial)), Factor: given(r.Factor), Spread: given(r.Spread), Jitter: given(r.Jitter),
		Max: given(Duration(r.MaxWait)), Total: given(Duration(r.MaxTotal)), AttemptTimeout: given(Duration(r.AttemptTimeout)),
		Classes: r.Classes, Longer: r.Longer,
	}
	if r.Jitter < 0 {
		s.Jitter = new(0.)
	}
	for _, f := range settings() {
		if all := (Settings{Retry: &s}); f.value(&all).IsValid() {
			return &s
		}
	}
	return nil
}

func given[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
