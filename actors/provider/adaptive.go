package provider

import (
	"sync"
	"time"
)

// AdaptiveConfig says when retries become fewer or more. The zero value looks at
// the last 100 calls.
type AdaptiveConfig struct {
	// Window is how many calls are remembered. Zero: 100. At most 100,000.
	Window int
	// Least is how many must be known before anything changes. Zero: a tenth of
	// Window, at least 1.
	Least int
	// High is the share of calls that must succeed for one attempt fewer, and
	// half the waits. Zero: 0.9. Up to 1.
	High float64
	// Low is the share below which there is one attempt more, and waits are one
	// and a half times as long. Zero: 0.7. Below High.
	Low float64
	// MostAttempts and MostInitial are never passed. Zero: one attempt more than
	// without adaption, and 60 s.
	MostAttempts int
	MostInitial  time.Duration
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c AdaptiveConfig) Check() error {
	d := c.withDefaults()
	switch {
	case c.Window < 0 || c.Window > 100_000:
		return badField("adaptive", "window", c.Window, "1 to 100000, or 0 for 100")
	case c.Least < 0 || d.Least > d.Window:
		return badField("adaptive", "least", c.Least, "1 to the window, or 0 for a tenth of it")
	case !within(d.High, 0, 1):
		return badField("adaptive", "high", c.High, "a share up to 1, or 0 for 0.9")
	case !within(d.Low, 0, d.High) || d.Low == d.High:
		return badField("adaptive", "low", c.Low, "a share below high, or 0 for 0.7")
	case c.MostAttempts < 0:
		return badField("adaptive", "most_attempts", c.MostAttempts, "a number of at least 1, or 0 for one more than without")
	case c.MostInitial < 0:
		return badField("adaptive", "most_initial", c.MostInitial, "a positive duration, or 0 for 60s")
	}
	return nil
}

func (c AdaptiveConfig) withDefaults() AdaptiveConfig {
	if c.Window == 0 {
		c.Window = 100
	}
	if c.Least == 0 {
		c.Least = max(1, c.Window/10)
	}
	if c.High == 0 {
		c.High = 0.9
	}
	if c.Low == 0 {
		c.Low = 0.7
	}
	if c.MostInitial == 0 {
		c.MostInitial = time.Minute
	}
	return c
}

// Adaptive remembers how calls ended and tells a [Retry] how hard to try: when
// nearly all succeed, little; when many fail, once more and with longer waits.
// One may serve several retries. It is safe for concurrent use.
type Adaptive struct {
	cfg AdaptiveConfig

	mu   sync.Mutex
	last []bool // a ring once it is full
	next int
	good int
}

// NewAdaptive fails only with cfg's Check.
func NewAdaptive(cfg AdaptiveConfig) (*Adaptive, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Adaptive{cfg: cfg, last: make([]bool, 0, cfg.Window)}, nil
}

// Record remembers a call's end.
func (a *Adaptive) Record(ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.last) < a.cfg.Window {
		a.last = append(a.last, ok)
	} else {
		if a.last[a.next] {
			a.good--
		}
		a.last[a.next] = ok
		a.next = (a.next + 1) % a.cfg.Window
	}
	if ok {
		a.good++
	}
}

// Success returns the share of remembered calls that succeeded, and how many
// are remembered. The share of none is 1.
func (a *Adaptive) Success() (share float64, calls int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.last) == 0 {
		return 1, 0
	}
	return float64(a.good) / float64(len(a.last)), len(a.last)
}

// Policy returns how many attempts a call may make, and its first wait, where
// attempts and initial are what it would be without adaption. With one attempt
// there is nothing to adapt; with more there are never fewer than two.
func (a *Adaptive) Policy(attempts int, initial time.Duration) (int, time.Duration) {
	share, calls := a.Success()
	if attempts <= 1 || calls < a.cfg.Least {
		return attempts, initial
	}
	switch {
	case share > a.cfg.High:
		return max(2, attempts-1), initial / 2
	case share < a.cfg.Low:
		most := a.cfg.MostAttempts
		if most == 0 {
			most = attempts + 1
		}
		return max(attempts, min(attempts+1, most)), max(initial, min(initial+initial/2, a.cfg.MostInitial))
	}
	return attempts, initial
}
