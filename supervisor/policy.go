package supervisor

import (
	"maps"
	"math"
	"math/rand/v2"
	"time"

	"github.com/covey-run/covey/messages"
)

// Strategy says who is restarted when one child fails.
type Strategy string

const (
	// OneForOne, the zero value's meaning: the failed child alone.
	OneForOne Strategy = "one_for_one"
	// AllForOne: every child of the supervisor.
	AllForOne Strategy = "all_for_one"
	// RestForOne: the failed child and those that were spawned after it.
	RestForOne Strategy = "rest_for_one"
)

// Restart says when a child that ended is started again.
type Restart string

const (
	// Permanent, the zero value's meaning: always, also when it stopped by
	// itself without a failure.
	Permanent Restart = "permanent"
	// Transient: only after a failure.
	Transient Restart = "transient"
	// Temporary: never; a failure stops it, and so does a sibling's failure that
	// would restart it.
	Temporary Restart = "temporary"
)

// Directive is what a supervisor does about one failure.
type Directive string

const (
	// DoRestart: a new incarnation, after the backoff, with the mailbox kept.
	DoRestart Directive = "restart"
	// DoResume: the same incarnation goes on with its next message, and its
	// work under way goes on too. An actor whose start failed, or that passes a
	// child's failure on, is restarted all the same.
	DoResume Directive = "resume"
	// DoStop: the child stops for good.
	DoStop Directive = "stop"
	// DoEscalate: the supervisor itself fails with the child's failure.
	DoEscalate Directive = "escalate"
	// DoQuarantine: the child is kept, and answers every ask with the failure
	// that put it there, until [Ref.Release] or its supervisor's restart.
	DoQuarantine Directive = "quarantine"
)

// Backoff is a capped exponential backoff with jitter: the n-th restart in the
// window waits Initial·Factor^(n-1), at most Max, times a random factor in
// [1-Jitter, 1+Jitter].
type Backoff struct {
	// Initial is the first wait. Zero: 100 ms. Negative: no wait at all.
	Initial time.Duration
	// Factor multiplies from one wait to the next. Zero: 2. At least 1.
	Factor float64
	// Max caps the wait before jitter. Zero: 30 s.
	Max time.Duration
	// Jitter is the share by which a wait varies. Zero: 0.2. Negative: none. At
	// most 1.
	Jitter float64
}

// Wait returns the wait before restart n (from 1). random is a number in
// [0, 1); nil takes one from math/rand.
func (b Backoff) Wait(n int, random func() float64) time.Duration {
	b = b.withDefaults()
	if b.Initial < 0 {
		return 0
	}
	d := float64(b.Initial) * math.Pow(b.Factor, float64(max(n, 1)-1))
	d = min(d, float64(b.Max))
	if b.Jitter > 0 {
		if random == nil {
			random = rand.Float64
		}
		d *= 1 - b.Jitter + 2*b.Jitter*random()
	}
	return time.Duration(min(d, math.MaxInt64/2))
}

func (b Backoff) withDefaults() Backoff {
	if b.Initial == 0 {
		b.Initial = 100 * time.Millisecond
	}
	if b.Factor == 0 {
		b.Factor = 2
	}
	if b.Max == 0 {
		b.Max = 30 * time.Second
	}
	if b.Jitter == 0 {
		b.Jitter = 0.2
	}
	return b
}

// Policy is how a supervisor treats its children. The zero value: one for one,
// the default [Backoff], five restarts within a minute, then escalation.
type Policy struct {
	Strategy Strategy
	Backoff  Backoff
	// Intensity is how many restarts a child may need Within; the next failure
	// makes it spent. Zero: 5. Negative: no limit.
	Intensity int
	// Within is the window of Intensity. Zero: 1 minute.
	Within time.Duration
	// Spent is what happens then: DoEscalate (zero), DoStop or DoQuarantine.
	Spent Directive
	// OnClass overrides DoRestart for a failure's class.
	OnClass map[messages.Class]Directive
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (p Policy) Check() error {
	bad := func(field string, value any, allowed string) error {
		return messages.Errorf(messages.Invalid, "", "policy: %s: %v is not allowed: use %s", field, value, allowed)
	}
	switch p.Strategy {
	case "", OneForOne, AllForOne, RestForOne:
	default:
		return bad("strategy", p.Strategy, "one_for_one, all_for_one or rest_for_one")
	}
	switch p.Spent {
	case "", DoEscalate, DoStop, DoQuarantine:
	default:
		return bad("spent", p.Spent, "escalate, stop or quarantine")
	}
	for c, d := range p.OnClass {
		if !c.Valid() {
			return bad("on_class", c, "one of messages.Classes()")
		}
		switch d {
		case DoRestart, DoResume, DoStop, DoEscalate, DoQuarantine:
		default:
			return bad("on_class "+string(c), d, "restart, resume, stop, escalate or quarantine")
		}
	}
	b := p.Backoff
	switch {
	case b.Factor != 0 && (b.Factor < 1 || math.IsNaN(b.Factor) || math.IsInf(b.Factor, 0)):
		return bad("backoff.factor", b.Factor, "a number of at least 1")
	case b.Jitter > 1 || math.IsNaN(b.Jitter):
		return bad("backoff.jitter", b.Jitter, "at most 1")
	case b.Max < 0:
		return bad("backoff.max", b.Max, "a positive duration, or 0 for 30s")
	case p.Within < 0:
		return bad("within", p.Within, "a positive duration, or 0 for 1m")
	}
	return nil
}

func (p Policy) withDefaults() Policy {
	if p.Strategy == "" {
		p.Strategy = OneForOne
	}
	if p.Intensity == 0 {
		p.Intensity = 5
	}
	if p.Within == 0 {
		p.Within = time.Minute
	}
	if p.Spent == "" {
		p.Spent = DoEscalate
	}
	p.Backoff = p.Backoff.withDefaults()
	p.OnClass = maps.Clone(p.OnClass)
	return p
}

// decide returns the directive for a failure of class c, before intensity.
func (p Policy) decide(c messages.Class, r Restart) Directive {
	if c == "" {
		c = messages.Crashed
	}
	if d, ok := p.OnClass[c]; ok && d != DoRestart {
		return d
	}
	return p.restart(r)
}

func (p Policy) restart(r Restart) Directive {
	if r == Temporary {
		return DoStop
	}
	return DoRestart
}
