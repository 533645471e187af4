package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/covey-run/covey/messages"
)

// Kind is a kind of fault.
type Kind string

// The kinds.
const (
	// Kill is kill -9 of a node's process, which is started again.
	Kill Kind = "kill"
	// Stop freezes a node's process (SIGSTOP) and lets it go on (SIGCONT).
	Stop Kind = "stop"
	// Term is SIGTERM to a node's process, which is started again once it has
	// ended.
	Term Kind = "term"
	// NATS ends the NATS server, by SIGTERM or by kill -9, and starts it again on
	// the same port and data. Only where it is a process of its own.
	NATS Kind = "nats"
	// Partition lets no byte through between a node and the NATS servers of the
	// others; no connection is closed by it.
	Partition Kind = "partition"
)

// Kinds returns every kind of fault.
func Kinds() []Kind { return []Kind{Kill, Stop, Term, NATS, Partition} }

// ParseKinds reads a list as "kill,stop"; "" is every kind.
func ParseKinds(list string) ([]Kind, error) {
	if list == "" {
		return Kinds(), nil
	}
	var kinds []Kind
	for name := range strings.SplitSeq(list, ",") {
		k := Kind(strings.TrimSpace(name))
		if !slices.Contains(Kinds(), k) {
			return nil, messages.Errorf(messages.Invalid, "", "fault: %q is not allowed: use %s", name, joined(Kinds()))
		}
		if !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds, nil
}

func joined(kinds []Kind) string {
	var names []string
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// natsServer is the target of faults that no node has.
const natsServer = -1

// Fault is one thing that is done to the cluster.
type Fault struct {
	// At is when, from the start of the load.
	At   time.Duration `json:"at_ns"`
	Kind Kind          `json:"kind"`
	// Node is the target, from 0; -1 for the NATS server.
	Node int `json:"node"`
	// Length is how long it lasts: until a process is started again or goes on,
	// or the partition is healed.
	Length time.Duration `json:"length_ns"`
	// Hard is a NATS server's end by kill -9 rather than SIGTERM.
	Hard bool `json:"hard,omitempty"`
}

// String is the fault in words, without its moment.
func (f Fault) String() string {
	length := f.Length.Round(10 * time.Millisecond)
	switch f.Kind {
	case Kill:
		return fmt.Sprintf("kill -9 of %s, started again after %s", nodeName(f.Node), length)
	case Stop:
		return fmt.Sprintf("SIGSTOP to %s, SIGCONT after %s", nodeName(f.Node), length)
	case Term:
		return fmt.Sprintf("SIGTERM to %s, started again %s after its end", nodeName(f.Node), length)
	case Partition:
		return fmt.Sprintf("%s is cut off for %s", nodeName(f.Node), length)
	}
	how := "SIGTERM to"
	if f.Hard {
		how = "kill -9 of"
	}
	return fmt.Sprintf("%s the NATS server, started again after %s", how, length)
}

func (f Fault) end() time.Duration { return f.At + f.Length }

func nodeName(n int) string { return fmt.Sprintf("node-%d", n+1) }

// Plan says what a schedule is to be like. The same plan gives the same
// schedule, on every machine.
type Plan struct {
	Seed uint64
	// For is the time in which all faults begin and end.
	For   time.Duration
	Nodes int
	Kinds []Kind
	// Most is how many nodes may be down, frozen or cut off at once.
	Most int
	// Rest is how long a node is left alone after a fault.
	Rest time.Duration
}

const (
	// minGap and maxGap are between the beginnings of two faults.
	minGap, maxGap = 500 * time.Millisecond, 3500 * time.Millisecond
	// A short fault is one that should be hardly noticed, a long one outlasts
	// every lease.
	shortest, short, long = 100 * time.Millisecond, 1500 * time.Millisecond, 12 * time.Second
)

// Schedule returns the faults in their order. Every kind has its turn before one
// comes again.
func (p Plan) Schedule() []Fault {
	rng := rand.New(rand.NewPCG(p.Seed, p.Seed))
	between := func(from, to time.Duration) time.Duration {
		return (from + time.Duration(rng.Int64N(int64(to-from)))).Truncate(time.Millisecond)
	}
	var faults []Fault
	var round []Kind
	for at := between(minGap, maxGap); len(p.Kinds) > 0; at += between(minGap, maxGap) {
		if len(round) == 0 {
			round = slices.Clone(p.Kinds)
			rng.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		}
		f := Fault{At: at, Kind: round[0], Node: natsServer, Hard: rng.IntN(2) == 0}
		round = round[1:]
		f.Length = between(shortest, short)
		if (f.Kind == Stop || f.Kind == Partition) && rng.IntN(2) == 0 {
			f.Length = between(short, long)
		}
		if f.Kind != NATS {
			f.Node, f.Hard = rng.IntN(p.Nodes), false
			f.At = p.free(faults, f.Node, f.At)
		} else {
			f.At = p.up(faults, f.At)
		}
		at = f.At
		f.Length = min(f.Length, p.For-f.At)
		if f.Length < shortest {
			break
		}
		faults = append(faults, f)
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return faults
}

// free is the first moment from at on when the node has rested, and one more may
// be in trouble.
func (p Plan) free(faults []Fault, node int, at time.Duration) time.Duration {
	for {
		var ends []time.Duration // of what is under way
		next := at
		for _, f := range faults {
			switch {
			case f.Node == natsServer || f.end()+p.Rest <= at:
			case f.Node == node:
				next = max(next, f.end()+p.Rest)
			default:
				ends = append(ends, f.end()+p.Rest)
			}
		}
		if next == at && len(ends) < p.Most {
			return at
		}
		if len(ends) >= p.Most {
			slices.Sort(ends)
			next = max(next, ends[len(ends)-p.Most])
		}
		at = next
	}
}

// up is the first moment from at on when the NATS server has rested.
func (p Plan) up(faults []Fault, at time.Duration) time.Duration {
	for _, f := range faults {
		if f.Node == natsServer {
			at = max(at, f.end()+p.Rest)
		}
	}
	return at
}
