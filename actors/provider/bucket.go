package provider

import (
	"time"

	"golang.org/x/time/rate"
)

// bucket is a token bucket that can be given back what was taken in vain. It is
// not safe for concurrent use.
type bucket struct {
	lim   *rate.Limiter
	burst int
	// credit is what was given back and is taken before the bucket is. Together
	// they hold no more than burst.
	credit int
}

// newBucket returns a full bucket of which no minute takes more than perMinute:
// it gives burst at once and then, within the minute, one less than its rate.
// The thousandth is for rounding, and for requests that the way to the server
// brings closer together. nil where perMinute is 0: no limit.
func newBucket(perMinute, burst int) *bucket {
	if perMinute == 0 {
		return nil
	}
	const minute = 60 * 1.001
	return &bucket{lim: rate.NewLimiter(rate.Limit(float64(perMinute-burst+1)/minute), burst), burst: burst}
}

// drawn is what a reservation took from a bucket.
type drawn struct {
	b      *bucket
	r      *rate.Reservation
	credit int
}

// reserve takes n, at most the burst, and says how long to wait for it.
func (b *bucket) reserve(now time.Time, n int) (drawn, time.Duration) {
	if b == nil {
		return drawn{}, 0
	}
	n = b.fit(n)
	if room := float64(b.burst) - b.lim.TokensAt(now); float64(b.credit) > room {
		b.credit = max(0, int(room))
	}
	h := drawn{b: b, credit: min(b.credit, n)}
	b.credit -= h.credit
	h.r = b.lim.ReserveN(now, n-h.credit)
	return h, h.r.DelayFrom(now)
}

// cancel gives back what was not used, as far as nobody behind was told a wait
// for it.
func (h drawn) cancel(now time.Time) {
	if h.b != nil {
		h.r.CancelAt(now)
		h.b.give(h.credit)
	}
}

// settle corrects what was reserved to what was used.
func (b *bucket) settle(now time.Time, reserved, used int) {
	if b == nil {
		return
	}
	more := used - b.fit(reserved)
	b.give(-more)
	for ; more > 0; more -= b.burst { // it gives at most a burst at a time
		b.lim.ReserveN(now, min(more, b.burst))
	}
}

func (b *bucket) give(n int) { b.credit = min(b.burst, b.credit+max(0, n)) }

func (b *bucket) fit(n int) int { return min(max(n, 0), b.burst) }
