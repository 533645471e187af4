package provider

import (
	"context"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// LimiterConfig says how many requests and tokens a provider may be sent. The
// zero value sets no limit.
type LimiterConfig struct {
	// Name is the model, in events and errors.
	Name string
	// RequestsPerMinute is the most requests in any minute. Zero: no limit.
	RequestsPerMinute int
	// RequestBurst is how many of them may come at once after a pause. Zero: a
	// tenth of RequestsPerMinute, at least 1. At most half of it, for what is
	// allowed at once is taken off the steady rate, so that no minute sees more
	// than the limit: with 60 a minute and a burst of 6, one comes every 1.09 s.
	RequestBurst int
	// TokensPerMinute is the most tokens, of requests and replies, in any minute
	// as far as estimates are right. Zero: no limit.
	TokensPerMinute int
	// TokenBurst is how many of them may be spent at once after a pause. Zero:
	// half of TokensPerMinute, which is the most. A request that is estimated
	// above it takes all of it.
	TokenBurst int
	// Estimate says what a request will cost, in tokens, before it is sent. nil:
	// [EstimateTokens].
	Estimate func(*Request) int
	// Clock measures. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each wait when it begins ([messages.LimiterWait]) and of
	// each that would have been too long (LimiterRefused). It must not block.
	// nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c LimiterConfig) Check() error {
	const most = 1_000_000_000
	switch {
	case c.RequestsPerMinute < 0 || c.RequestsPerMinute > most:
		return badField("limits", "requests_per_minute", c.RequestsPerMinute, "1 to 1000000000, or 0 for no limit")
	case c.RequestBurst < 0 || c.RequestBurst > max(1, c.RequestsPerMinute/2):
		return badField("limits", "request_burst", c.RequestBurst, "1 to half of requests_per_minute, or 0 for a tenth of it")
	case c.TokensPerMinute < 0 || c.TokensPerMinute > most:
		return badField("limits", "tokens_per_minute", c.TokensPerMinute, "1 to 1000000000, or 0 for no limit")
	case c.TokenBurst < 0 || c.TokenBurst > max(1, c.TokensPerMinute/2):
		return badField("limits", "token_burst", c.TokenBurst, "1 to half of tokens_per_minute, or 0 for that half")
	}
	return nil
}

// Limiter keeps calls within a provider's limits: a bucket of requests and one
// of tokens. A call takes one request and its estimated tokens and is told how
// long it must wait for them; when its reply tells the true number of tokens the
// difference is settled. Waits are first come, first served. A wait that would
// pass the caller's deadline is not begun: the call fails at once with class
// throttled, and RetryAfter and Until say when it would have been allowed.
//
// The limits are those of one Limiter, of one process: nodes that share an
// account divide its limits among them.
type Limiter struct {
	cfg LimiterConfig

	mu       sync.Mutex // so that both are taken at one moment
	requests *bucket
	tokens   *bucket // nil, each: no limit
}

// NewLimiter returns a limiter with full buckets. It fails only with cfg's Check.
func NewLimiter(cfg LimiterConfig) (*Limiter, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.RequestBurst == 0 {
		cfg.RequestBurst = max(1, cfg.RequestsPerMinute/10)
	}
	if cfg.TokenBurst == 0 {
		cfg.TokenBurst = max(1, cfg.TokensPerMinute/2)
	}
	if cfg.Estimate == nil {
		cfg.Estimate = EstimateTokens
	}
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	return &Limiter{
		cfg:      cfg,
		requests: newBucket(cfg.RequestsPerMinute, cfg.RequestBurst),
		tokens:   newBucket(cfg.TokensPerMinute, cfg.TokenBurst),
	}, nil
}

// Off reports whether the limiter sets no limit at all.
func (l *Limiter) Off() bool { return l.requests == nil && l.tokens == nil }

// Reservation is a place in a [Limiter]'s buckets.
type Reservation struct {
	// Wait is how long to wait before the request is sent, from the moment of the
	// reservation.
	Wait time.Duration

	l    *Limiter
	at   time.Time
	held [2]drawn
}

// Cancel gives back what a request that is not sent had reserved, as far as
// nobody behind it has been told a wait for it.
func (r Reservation) Cancel() {
	if r.l == nil {
		return
	}
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.cancel(r.l.cfg.Clock.Now())
}

func (r Reservation) cancel(now time.Time) {
	for _, h := range r.held {
		h.cancel(now)
	}
}

// Reserve takes one request and so many tokens, and says how long to wait for
// them. It does not wait.
func (l *Limiter) Reserve(tokens int) Reservation {
	r, _ := l.reserve(tokens, time.Time{})
	return r
}

// reserve reserves nothing where the wait would pass a deadline, zero for none.
func (l *Limiter) reserve(tokens int, deadline time.Time) (Reservation, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Reservation{l: l, at: l.cfg.Clock.Now()}
	var first, second time.Duration
	r.held[0], first = l.requests.reserve(r.at, 1)
	r.held[1], second = l.tokens.reserve(r.at, tokens)
	r.Wait = max(first, second)
	if !deadline.IsZero() && r.at.Add(r.Wait).After(deadline) {
		r.cancel(r.at)
		return r, false
	}
	return r, true
}

// Wait takes one request and so many tokens, and returns when the request may be
// sent. Without a deadline in ctx it waits as long as it takes.
func (l *Limiter) Wait(ctx context.Context, tokens int) error {
	_, err := l.take(ctx, &Request{}, tokens)
	return err
}

// WaitFor is Wait for a request, with its estimate; it returns how long it took.
func (l *Limiter) WaitFor(ctx context.Context, req *Request) (time.Duration, error) {
	return l.take(ctx, req, l.estimate(req))
}

func (l *Limiter) estimate(req *Request) int {
	if l.tokens == nil {
		return 0
	}
	return l.cfg.Estimate(req)
}

func (l *Limiter) take(ctx context.Context, req *Request, tokens int) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, messages.AsError(err, messages.Canceled, l.cfg.Name)
	}
	deadline, _ := ctx.Deadline()
	r, ok := l.reserve(tokens, deadline)
	until := r.at.Add(r.Wait)
	switch {
	case !ok:
		e := messages.Errorf(messages.Throttled, l.cfg.Name, "the rate limit allows this call in %v, after its deadline", r.Wait.Round(time.Millisecond))
		e.RetryAfter, e.Until = r.Wait, until
		l.observe(req, messages.Event{Kind: messages.LimiterRefused, Time: r.at, Wait: r.Wait, Until: until, Class: e.Class, Error: e})
		return 0, e
	case r.Wait <= 0:
		return 0, nil
	}
	l.observe(req, messages.Event{Kind: messages.LimiterWait, Time: r.at, Wait: r.Wait, Until: until})
	timer := l.cfg.Clock.NewTimer(r.Wait)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return r.Wait, nil
	case <-ctx.Done():
		r.Cancel()
		return 0, messages.Errorf(messages.ClassOf(ctx.Err()), l.cfg.Name, "gave up waiting for the rate limit: %w", ctx.Err())
	}
}

func (l *Limiter) observe(req *Request, e messages.Event) {
	if l.cfg.Observe != nil {
		e.Name = l.cfg.Name
		l.cfg.Observe(about(req, e))
	}
}

// Settle corrects an estimate once the true number is known: what was not used
// is given back, what was used beyond it is taken, and makes later calls wait.
func (l *Limiter) Settle(estimated, used int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens.settle(l.cfg.Clock.Now(), estimated, used)
}

// Wrap is a [Middleware].
func (l *Limiter) Wrap(m Model) Model {
	if l.Off() {
		return m
	}
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			estimated := l.estimate(req)
			waited, err := l.take(ctx, req, estimated)
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			for chunk, err := range m.Stream(ctx, req) {
				if chunk.Stop != "" {
					if used := chunk.Usage.InputTokens + chunk.Usage.OutputTokens; used > 0 {
						l.Settle(estimated, used)
					}
					chunk.Usage.Duration += waited
				}
				if !yield(chunk, err) || err != nil {
					return
				}
			}
		}
	})
}

// EstimateTokens guesses what a request costs: a token for each 4 bytes of text,
// tools and schema, 4 for each message, and the reply as MaxTokens says, or 256.
func EstimateTokens(req *Request) int {
	n, perMessage := len(req.Format), 4
	for i := range req.Messages {
		m := &req.Messages[i]
		n += len(m.Content) + len(m.Thinking)
		for _, c := range m.ToolCalls {
			n += len(c.Name) + len(c.Arguments)
		}
	}
	for _, t := range req.Tools {
		n += len(t.Name) + len(t.Description) + len(t.Parameters)
	}
	reply := req.Options.MaxTokens
	if reply <= 0 {
		reply = 256
	}
	return int(math.Ceil(float64(n)/4)) + perMessage*len(req.Messages) + reply
}
