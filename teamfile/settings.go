package teamfile

import (
	"fmt"
	"strings"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/supervisor"
)

// settings are the provider's, short keys included.
func (p Provider) settings() provider.Settings {
	s := p.Settings
	if p.Concurrency == nil && p.Waiting == nil {
		return s
	}
	var q provider.QueueSettings
	if s.Queue != nil {
		q = *s.Queue
	}
	if p.Concurrency != nil {
		q.Concurrency = p.Concurrency
	}
	if p.Waiting != nil {
		q.Waiting = p.Waiting
	}
	s.Queue = &q
	return s
}

// Level is what the file says of providers and of types of call.
func (f File) Level() provider.Level {
	l := provider.Level{Providers: map[string]provider.Settings{}, Calls: f.Calls, Where: f.where}
	for name, p := range f.Providers {
		l.Providers[name] = p.settings()
	}
	return l
}

// where names the line of a setting: "team.yaml:12".
func (f File) where(path ...string) string {
	words := "file " + strings.Join(path, ".")
	if f.src == nil || f.src.root == nil {
		return words
	}
	var at []any
	for _, p := range path {
		at = append(at, p)
	}
	if len(path) == 4 && path[2] == "queue" { // it may be in the short way
		if p := f.Providers[path[1]]; path[3] == "concurrency" && p.Concurrency != nil || path[3] == "waiting" && p.Waiting != nil {
			at = []any{path[0], path[1], path[3]}
		}
	}
	return fmt.Sprintf("%s:%d", f.src.name, f.src.root.lineOf(at))
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
