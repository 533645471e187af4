package chaos

import (
	"encoding/json"
	"io"
	"time"

	"github.com/covey-run/covey/messages"
)

// Options say what to break, how, and under what load.
type Options struct {
	// Binary is the covey command. Needed.
	Binary string
	// Team is the team file whose team works, on Prompt. "": the kit's own, whose
	// model and whose unsafe tools are outside of the nodes and count what they
	// are asked to do.
	Team, Prompt string
	// Name and Definition are the team's, and Pools those that its members want;
	// of the kit's own team they are filled in.
	Name       string
	Definition json.RawMessage
	Pools      []string
	// Nodes is how many there are. Zero: 3.
	Nodes int
	// Runs is how many runs are under way at any time; each that ends is followed
	// by a new one, at most Runs in 5 s. Zero: 50.
	Runs int
	// Rooms is how many runs a node takes. Zero: 16.
	Rooms int
	// For is how long faults are done. Zero: 2 minutes.
	For time.Duration
	// Within bounds the time from the last fault's end to the last run's. Zero:
	// 90 s.
	Within time.Duration
	// Pace is how long the kit's model takes for a reply. Zero: 300 ms.
	Pace time.Duration
	// Seed determines the faults.
	Seed uint64
	// Embedded has the nodes be the NATS servers, with three replicas; else NATS
	// is a process of its own.
	Embedded bool
	// Faults are the kinds that are done. nil: all that are possible.
	Faults []Kind
	// Dir is where logs and data are. It must exist, and is left as it is at the
	// end.
	Dir string
	// Log is told of what happens, a line each. nil: nobody is.
	Log io.Writer
}

// Check returns an error of class invalid that names the first field which is
// wrong.
func (o Options) Check() error {
	bad := func(field string, value any, allowed string) error {
		return messages.Errorf(messages.Invalid, "", "chaos: %s: %v is not allowed: use %s", field, value, allowed)
	}
	switch {
	case o.Nodes < 0 || o.Nodes > 9:
		return bad("nodes", o.Nodes, "1 to 9")
	case o.Embedded && o.Nodes != 0 && o.Nodes != 3:
		return bad("nodes", o.Nodes, "3, for embedded servers")
	case o.Runs < 0 || o.Runs > 1000:
		return bad("runs", o.Runs, "1 to 1000")
	case o.For < 0 || o.For > 0 && o.For < minFor:
		return bad("for", o.For, "at least "+minFor.String())
	case o.Team != "" && o.Prompt == "":
		return bad("prompt", `""`, "a question for the team")
	}
	if o.Embedded {
		for _, k := range o.Faults {
			if k == NATS {
				return bad("fault", k, "kill, stop, term or partition: with embedded servers the nodes are the NATS servers")
			}
		}
	}
	return supported()
}

// minFor is the shortest time in which every kind can have its turn.
const minFor = 5 * time.Second

func (o Options) withDefaults() Options {
	def := func(to *int, value int) {
		if *to == 0 {
			*to = value
		}
	}
	def(&o.Nodes, 3)
	def(&o.Runs, 50)
	def(&o.Rooms, 16)
	for to, value := range map[*time.Duration]time.Duration{&o.For: 2 * time.Minute, &o.Within: 90 * time.Second, &o.Pace: 300 * time.Millisecond} {
		if *to == 0 {
			*to = value
		}
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Faults == nil {
		for _, k := range Kinds() {
			if k != NATS || !o.Embedded {
				o.Faults = append(o.Faults, k)
			}
		}
	}
	return o
}

// plan is the plan of the faults. Embedded servers keep a majority.
func (o Options) plan() Plan {
	p := Plan{Seed: o.Seed, For: o.For, Nodes: o.Nodes, Kinds: o.Faults, Most: max(o.Nodes-1, 1), Rest: time.Second}
	if o.Embedded {
		p.Most, p.Rest = (o.Nodes-1)/2, 5*time.Second
	}
	return p
}
