package provider

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// StackConfig configures the middlewares around one model. The zero value
// gives queue, breaker and retry their defaults, sets no rate limit, keeps no
// replies and does not adapt. Name, Clock and Observe fill those fields of the
// parts where they are not set.
type StackConfig struct {
	Name    string
	Cache   *CacheConfig // nil: no reply is kept
	Queue   QueueConfig
	Limiter LimiterConfig
	Breaker BreakerConfig
	Retry   RetryConfig
	// Adaptive changes the retries of all kinds of call. nil: none does.
	Adaptive *AdaptiveConfig
	// Kinds are the settings of types of call ([Request.Kind]) that differ.
	Kinds   map[string]KindConfig
	Clock   clockwork.Clock
	Observe func(messages.Event)
}

// KindConfig is what one type of call has to itself. It takes the place of the
// stack's Cache and Retry whole; nothing is merged.
type KindConfig struct {
	Cache *CacheConfig // nil: no reply is kept
	Retry RetryConfig
}

// Override is what one call has to itself.
type Override struct {
	// Retry takes the place of the stack's, or its kind's, whole. nil: it stays.
	Retry *RetryConfig
	// NoCache neither gives a kept reply nor keeps this one.
	NoCache bool
}

// Check returns the first part's error.
func (c StackConfig) Check() error {
	checks := []interface{ Check() error }{c.Queue, c.Limiter, c.Breaker, c.Retry}
	if c.Cache != nil {
		checks = append(checks, *c.Cache)
	}
	if c.Adaptive != nil {
		checks = append(checks, *c.Adaptive)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Kinds)) {
		k := c.Kinds[name]
		checks = append(checks, k.Retry)
		if k.Cache != nil {
			checks = append(checks, *k.Cache)
		}
	}
	for _, part := range checks {
		if err := part.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Stack is everything around one client, in this order, outermost first:
//
//		cache → single-flight → queue → limiter → breaker → retry → client
//
//	  - The cache and the single-flight come first: a kept reply, and a call that
//	    another has begun, cost the provider nothing, so they take neither a place
//	    in the queue nor a token, and wait for neither. What is kept is the reply
//	    that came through the whole stack.
//	  - The queue is before the limiter, so that the calls which wait for tokens
//	    are few and the choice among the others stays open until the last moment:
//	    an urgent call does not stand behind a thousand reservations.
//	  - The breaker comes after both, so that a call which waited asks it when its
//	    turn comes. A call that finds the breaker open does not join the queue nor
//	    take a token: it fails at once.
//	  - The breaker is around the retries, so that it counts calls that could not
//	    be saved and not hiccups, that its probe is one call, and that nothing
//	    backs off behind an open breaker.
//	  - Retry is next to the client: there is one owner of retries. Each attempt
//	    after the first takes from the limiter again, so no limit is passed, and a
//	    call in a backoff keeps its place in the queue: fewer calls reach a
//	    provider in trouble.
//
// Calls are shared if they have the same [Request.Key], or would be kept under
// the same name.
//
// A Stack lives longer than the client it wraps; keep it when a client or an
// actor is made anew. Observe hears of the end of every call through it
// ([messages.ProviderCall]).
type Stack struct {
	// Cache is nil if replies are not kept; that of kinds is [Stack.CacheOf].
	Cache    *Cache
	Flight   *Flight
	Queue    *Queue
	Limiter  *Limiter
	Breaker  *Breaker
	Retry    *Retry
	Adaptive *Adaptive // nil: none

	cfg   StackConfig
	kinds map[string]kind
}

// kind is what a type of call has to itself.
type kind struct {
	cache *Cache
	retry *Retry
}

// NewStack fails only with cfg's Check.
func NewStack(cfg StackConfig) (*Stack, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	s := &Stack{cfg: cfg, kinds: map[string]kind{}}
	fill(&cfg, &cfg.Queue.Name, &cfg.Queue.Clock, &cfg.Queue.Observe)
	fill(&cfg, &cfg.Limiter.Name, &cfg.Limiter.Clock, &cfg.Limiter.Observe)
	fill(&cfg, &cfg.Breaker.Name, &cfg.Breaker.Clock, &cfg.Breaker.Observe)
	flight := FlightConfig{}
	fill(&cfg, &flight.Name, &flight.Clock, &flight.Observe)
	s.Flight = NewFlight(flight)
	var err error
	if cfg.Adaptive != nil {
		if s.Adaptive, err = NewAdaptive(*cfg.Adaptive); err != nil {
			return nil, err
		}
	}
	if s.Queue, err = NewQueue(cfg.Queue); err != nil {
		return nil, err
	}
	if s.Limiter, err = NewLimiter(cfg.Limiter); err != nil {
		return nil, err
	}
	if s.Breaker, err = NewBreaker(cfg.Breaker); err != nil {
		return nil, err
	}
	first, err := s.newKind(KindConfig{cfg.Cache, cfg.Retry})
	if err != nil {
		return nil, err
	}
	s.Cache, s.Retry = first.cache, first.retry
	for name, k := range cfg.Kinds {
		if s.kinds[name], err = s.newKind(k); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// fill sets what a part's config leaves to the stack's.
func fill(cfg *StackConfig, name *string, clock *clockwork.Clock, observe *func(messages.Event)) {
	if *name == "" {
		*name = cfg.Name
	}
	if *clock == nil {
		*clock = cfg.Clock
	}
	if *observe == nil {
		*observe = cfg.Observe
	}
}

func (s *Stack) newKind(cfg KindConfig) (kind, error) {
	k, err := kind{}, error(nil)
	if cfg.Cache != nil {
		c := *cfg.Cache
		fill(&s.cfg, &c.Name, &c.Clock, &c.Observe)
		if k.cache, err = NewCache(c); err != nil {
			return k, err
		}
	}
	k.retry, err = s.newRetry(cfg.Retry)
	return k, err
}

func (s *Stack) newRetry(cfg RetryConfig) (*Retry, error) {
	fill(&s.cfg, &cfg.Name, &cfg.Clock, &cfg.Observe)
	if cfg.Adaptive == nil {
		cfg.Adaptive = s.Adaptive
	}
	if cfg.Before == nil && !s.Limiter.Off() {
		cfg.Before = func(ctx context.Context, req *Request, _ int) error {
			_, err := s.Limiter.WaitFor(ctx, req)
			return err
		}
	}
	return NewRetry(cfg)
}

// CacheOf returns the cache of a type of call, nil if it has none.
func (s *Stack) CacheOf(name string) *Cache { return s.of(name).cache }

// of returns what a type of call has.
func (s *Stack) of(name string) kind {
	if k, ok := s.kinds[name]; ok {
		return k
	}
	return kind{s.Cache, s.Retry}
}

// Wrap is a [Middleware].
func (s *Stack) Wrap(m Model) Model {
	retried := Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			retry := s.of(req.Kind).retry
			if o := req.Override; o != nil && o.Retry != nil {
				own, err := s.newRetry(*o.Retry)
				if err != nil {
					yield(Chunk{}, err)
					return
				}
				retry = own
			}
			retry.stream(ctx, m, req, yield)
		}
	})
	w := &wrapped{s: s, inner: s.Queue.Wrap(s.Limiter.Wrap(s.Breaker.Wrap(retried)))}
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		if s.cfg.Observe == nil {
			return func(yield func(Chunk, error) bool) { w.stream(ctx, req, yield) }
		}
		return func(yield func(Chunk, error) bool) { w.observed(ctx, req, yield) }
	})
}

// wrapped is one client behind a stack.
type wrapped struct {
	s     *Stack
	inner Model // from the queue on
}

func (w *wrapped) stream(ctx context.Context, req *Request, yield func(Chunk, error) bool) {
	cache := w.s.of(req.Kind).cache
	if req.Override != nil && req.Override.NoCache {
		cache = nil
	}
	name := "" // that a reply is kept under
	if cache != nil {
		if name = cache.identity(req); ctx.Err() == nil && cache.hit(req, name, yield) {
			return
		}
	}
	if !w.s.Breaker.closed.Load() {
		if err := w.s.Breaker.refusal(); err != nil {
			yield(Chunk{}, err)
			return
		}
	}
	through := w.inner
	if name != "" {
		through = Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
			return func(yield func(Chunk, error) bool) {
				if !cache.hit(req, name, yield) { // kept since we looked
					cache.record(ctx, w.inner, req, name, yield)
				}
			}
		})
	}
	id := name // that a call is shared under
	switch {
	case req.Fresh:
		id = ""
	case req.Key != "":
		id = "key " + req.Key
	}
	w.s.Flight.stream(ctx, through, req, id, yield)
}

// observed tells of the call's end.
func (w *wrapped) observed(ctx context.Context, req *Request, yield func(Chunk, error) bool) {
	start := w.s.cfg.Clock.Now()
	e := messages.Event{Kind: messages.ProviderCall, Name: w.s.cfg.Name, Attempt: 1}
	ended := false
	w.stream(ctx, req, func(c Chunk, err error) bool {
		switch {
		case err != nil:
			e.Class = messages.ClassOf(err)
			e.Error = messages.AsError(err, e.Class, w.s.cfg.Name)
			e.Attempt = max(1, e.Error.Attempts)
			ended = true
		case c.Stop != "":
			usage := c.Usage
			e.Usage, e.Attempt = &usage, max(1, c.Attempt)
			ended = true
		}
		return yield(c, err)
	})
	if !ended { // its reader left
		e.Class = messages.Canceled
	}
	e.Time = w.s.cfg.Clock.Now()
	e.Wait = e.Time.Sub(start)
	w.s.cfg.Observe(about(req, e))
}
