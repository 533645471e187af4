package chaos

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is what was done to a cluster, and what held.
type Report struct {
	Seed     uint64        `json:"seed"`
	For      time.Duration `json:"for_ns"`
	Embedded bool          `json:"embedded,omitempty"`
	// Schedule is what was to be done, Faults what was.
	Schedule []Fault `json:"-"`
	Faults   []*done `json:"faults"`
	// Runs were submitted, of which Answered answered and Failed failed.
	Runs     int `json:"runs"`
	Answered int `json:"answered"`
	Failed   int `json:"failed"`
	// Takeovers is how often a run was taken over.
	Takeovers int `json:"takeovers"`
	// Settled is the time from the last fault's end to the last run's.
	Settled time.Duration   `json:"settled_ns"`
	Pauses  map[Kind]Pauses `json:"pauses"`
	Checks  []Check         `json:"checks"`
}

// Pauses are the times from a fault to the next record of each run that it
// affected, the time that the run's models and tools took included. A run that
// pauses already, for an earlier fault, is counted there.
type Pauses struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

func pausesOf(all []time.Duration) Pauses {
	slices.Sort(all)
	at := func(percent int) time.Duration { return all[min(len(all)*percent/100, len(all)-1)] }
	return Pauses{len(all), at(50), at(99), all[len(all)-1]}
}

func (r *Report) add(c Check) { r.Checks = append(r.Checks, c) }

// OK reports whether every check that was made found nothing.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK() })
}

// measure takes the figures from the journal.
func (r *Report) measure(submitted []string, all map[string]*history, faults []*done) {
	r.Runs, r.Faults = len(submitted), faults
	for _, h := range all {
		r.Takeovers += h.takeovers()
		switch {
		case h.answer != nil:
			r.Answered++
		case h.failure != nil:
			r.Failed++
		}
	}
	pauses := map[Kind][]time.Duration{}
	stands := map[string]time.Time{} // until when a run pauses for an earlier fault
	slices.SortFunc(faults, func(a, b *done) int { return a.Time.Compare(b.Time) })
	for _, f := range faults {
		for run, h := range all {
			if f.Node != natsServer && !h.by(nodeName(f.Node), f.Time) {
				continue
			}
			if d, ok := h.pause(f.Time); ok && !f.Time.Before(stands[run]) {
				f.Affected++
				pauses[f.Kind] = append(pauses[f.Kind], d)
				stands[run] = f.Time.Add(d)
			}
		}
	}
	r.Pauses = map[Kind]Pauses{}
	for kind, all := range pauses {
		r.Pauses[kind] = pausesOf(all)
	}
}

// most is how many findings of one check are printed.
const most = 20

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	p := printer{w: w}
	ms := time.Millisecond
	p.f("What was done, with seed %d:\n", r.Seed)
	for _, f := range r.Faults {
		p.f("  %8s  %-50s %3d runs affected", f.Time.Sub(r.Faults[0].Time.Add(-r.Faults[0].At)).Round(10*ms), f.Fault, f.Affected)
		if f.Took > 0 {
			p.f(", it took %s to end", f.Took.Round(ms))
		}
		p.f("\n")
	}
	p.f("\n%d runs: %d answered, %d failed; %d takeovers. The last one ended %s after the last fault.\n", r.Runs, r.Answered, r.Failed, r.Takeovers, r.Settled.Round(10*ms))
	p.f("From a fault to an affected run's next record, with the time of its models and tools:\n")
	for _, k := range Kinds() {
		if x, ok := r.Pauses[k]; ok {
			p.f("  %-10s p50 %8s   p99 %8s   max %8s   of %d\n", k, x.P50.Round(ms), x.P99.Round(ms), x.Max.Round(ms), x.Count)
		}
	}
	p.f("\nWhat had to hold:\n")
	for _, c := range r.Checks {
		verdict := "ok"
		switch {
		case !c.OK():
			verdict = "FAILED"
		case c.Skipped:
			verdict = "-"
		}
		p.f("  %-6s  %s (%s)\n", verdict, c.Name, c.Seen)
		for i, f := range c.Found {
			if i == most {
				p.f("          … and %d more\n", len(c.Found)-most)
				break
			}
			p.f("          %s\n", f)
		}
	}
	return p.err
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
