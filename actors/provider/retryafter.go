package provider

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RetryAfter reads the value of a Retry-After header: seconds or an HTTP date.
// What is absent, malformed or in the past is 0; nothing is above 24 hours.
func RetryAfter(value string, now time.Time) time.Duration {
	const most = 24 * time.Hour
	value = strings.TrimSpace(value)
	if s, err := strconv.ParseFloat(value, 64); err == nil {
		switch {
		case !(s > 0): // not a number, too
			return 0
		case s >= most.Seconds():
			return most
		}
		return time.Duration(s * float64(time.Second))
	}
	t, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(t.Sub(now), 0), most)
}
