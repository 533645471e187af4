package messages

import (
	"strconv"
	"strings"
	"time"
)

// NodeInfo is what a node says of itself: in its lease, and to whoever asks.
type NodeInfo struct {
	Node string `json:"node"`
	// Epoch counts the node's leases: it is the place of the present one's first
	// record in the bucket, 0 for a node without a lease (an embedded server of
	// its own). A restarted node has a higher one.
	Epoch uint64 `json:"epoch,omitempty"`
	// Version is the program's; Wire is the [Version] that it writes.
	Version string    `json:"version,omitempty"`
	Wire    int       `json:"wire"`
	Started time.Time `json:"started"`
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid,omitempty"`
	// Pools are the pools that it belongs to, Tools the names of the tools that
	// it lends to members which use them, Queues those from which it takes tasks.
	Pools  []string `json:"pools,omitempty"`
	Tools  []string `json:"tools,omitempty"`
	Queues []string `json:"queues,omitempty"`
	// Runs are the runs that it works on, of at most MaxRuns; Guests the members
	// of other nodes' runs that live on it, of at most MaxGuests.
	Runs      int `json:"runs"`
	MaxRuns   int `json:"max_runs"`
	Guests    int `json:"guests"`
	MaxGuests int `json:"max_guests"`
	// Draining: it takes nothing more, and hands over what it has.
	Draining bool `json:"draining,omitempty"`
	// At is when it said so, by its own clock.
	At time.Time `json:"at"`
}

// Owner names the node and the epoch of its lease: see [Owner].
func (n NodeInfo) Owner() string { return Owner(n.Node, n.Epoch) }

// Load is how full the node is, from 0 to 1 and beyond: the larger share of its
// rooms for runs and for guests that is taken.
func (n NodeInfo) Load() float64 {
	share := func(has, of int) float64 {
		if of <= 0 {
			return 0
		}
		return float64(has) / float64(of)
	}
	return max(share(n.Runs, n.MaxRuns), share(n.Guests, n.MaxGuests))
}

// Owner names an owner of writers, and whoever speaks in a run's name on the
// bus: "<node>~<epoch>", or the node's name alone without a lease.
func Owner(node string, epoch uint64) string {
	if epoch == 0 {
		return node
	}
	return node + "~" + strconv.FormatUint(epoch, 10)
}

// SplitOwner is the node and the epoch of an [Owner].
func SplitOwner(owner string) (node string, epoch uint64) {
	node, after, _ := strings.Cut(owner, "~")
	epoch, _ = strconv.ParseUint(after, 10, 64) // none: a node without a lease
	return node, epoch
}

// Place asks a node to be the home of a member of a run that another node
// supervises. It is sent again every few seconds as the sign that the run still
// wants the member there; a home that has heard none for a while gives it up.
type Place struct {
	// Owner is the owner of the run; Task the run's task, whose team the member
	// is looked up in.
	Owner string `json:"owner"`
	Task  Task   `json:"task"`
	// Member is the member's path within the run. Incarnation tells the
	// placements of one member by one owner apart: a higher one replaces a lower.
	Member      string `json:"member"`
	Incarnation int64  `json:"incarnation"`
	// Known says that the member was placed there before: a home that does not
	// have it refuses, class unavailable, in place of starting it anew.
	Known bool `json:"known,omitempty"`
	// Finish says that no new step may begin, because the owner is being stopped:
	// the member ends the step under way, and tells whoever asked that it stops.
	Finish bool `json:"finish,omitempty"`
	// Leave says that the member shall go.
	Leave bool `json:"leave,omitempty"`
}

// Gone tells a run's owner, on the address of whoever supervises the member,
// that a placed member lives no more where it was placed.
type Gone struct {
	Member      string `json:"member"`
	Incarnation int64  `json:"incarnation"`
	// Step is what it was working on, "" for nothing.
	Step string `json:"step,omitempty"`
	// Error is why: class stopping when its home is being stopped, so that it
	// moves and has not failed; else its failure.
	Error *Error `json:"error"`
}
