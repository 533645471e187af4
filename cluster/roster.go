package cluster

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// roster is who has a lease, as the bucket's watch tells.
type roster struct {
	// joined and lost are told of each lease that begins and that is over. They
	// must not block.
	joined func(messages.NodeInfo)
	lost   func(n messages.NodeInfo)
	warn   func(error)

	mu      sync.Mutex
	nodes   map[string]leased
	round   int    // counts whole listings
	last    uint64 // the newest revision that was seen
	changed chan struct{}
	ends    map[string]ending // by owner: who is told of which lease's end
	listed  chan struct{}     // closed after the first whole listing
	once    sync.Once
}

// leased is a node with a lease.
type leased struct {
	messages.NodeInfo
	rev   uint64
	heard time.Time // by this node's clock
	round int
}

type ending struct {
	node  string
	epoch uint64
	over  chan struct{}
}

func newRoster(joined func(messages.NodeInfo), lost func(messages.NodeInfo), warn func(error)) *roster {
	return &roster{
		joined: joined, lost: lost, warn: warn, nodes: map[string]leased{}, changed: make(chan struct{}), ends: map[string]ending{}, listed: make(chan struct{}),
	}
}

// take hears one change of the bucket.
func (r *roster) take(e jetstream.KeyValueEntry) {
	name := e.Key()
	if strings.Contains(name, ".") {
		return
	}
	var now *leased
	if e.Operation() == jetstream.KeyValuePut {
		now = &leased{rev: e.Revision(), heard: time.Now()}
		if err := json.Unmarshal(e.Value(), &now.NodeInfo); err != nil {
			r.warn(messages.Errorf(messages.Invalid, "bucket "+leaseBucket, "%s: %w", name, err))
			return
		}
		now.Node, now.Epoch = name, cmp.Or(now.Epoch, e.Revision())
	}
	r.mu.Lock()
	was, there := r.nodes[name]
	if e.Revision() <= was.rev && there {
		if now != nil { // listed, if by a replica that is behind
			was.round = r.round
			r.nodes[name] = was
		}
		r.mu.Unlock()
		return
	}
	r.last = max(r.last, e.Revision())
	over := there && (now == nil || now.Epoch != was.Epoch)
	if now == nil {
		delete(r.nodes, name)
	} else {
		now.round = r.round
		r.nodes[name] = *now
	}
	if there != (now != nil) || over || now != nil && now.Draining != was.Draining {
		r.change()
	}
	r.settle()
	r.mu.Unlock()
	if over {
		r.lost(was.NodeInfo)
	}
	if now != nil && (!there || over) {
		r.joined(now.NodeInfo)
	}
}

// whole is called after each whole listing: who was not in it is gone.
func (r *roster) whole() {
	var gone []leased
	r.mu.Lock()
	for name, n := range r.nodes {
		if n.round < r.round {
			delete(r.nodes, name)
			gone = append(gone, n)
		}
	}
	r.round++
	if len(gone) > 0 {
		r.change()
	}
	r.settle()
	r.mu.Unlock()
	r.once.Do(func() { close(r.listed) })
	for _, n := range gone {
		r.lost(n.NodeInfo)
	}
}

// change tells whoever waits for one; r.mu is held.
func (r *roster) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// settle tells whoever waits for the end of a lease that is over; r.mu is held.
func (r *roster) settle() {
	for owner, e := range r.ends {
		if r.isOver(e.node, e.epoch) {
			close(e.over)
			delete(r.ends, owner)
		}
	}
}

// isOver reports whether a lease is: it is not there, and is not one that this
// node has not heard of yet. r.mu is held.
func (r *roster) isOver(node string, epoch uint64) bool {
	n, there := r.nodes[node]
	return (!there || n.Epoch != epoch) && epoch <= r.last
}

// live are the nodes that have a lease, by name, and what is closed when that
// changes.
func (r *roster) live() ([]messages.NodeInfo, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]messages.NodeInfo, 0, len(r.nodes))
	for _, n := range r.nodes {
		all = append(all, n.NodeInfo)
	}
	slices.SortFunc(all, func(a, b messages.NodeInfo) int { return strings.Compare(a.Node, b.Node) })
	return all, r.changed
}

// over reports whether a lease is.
func (r *roster) over(node string, epoch uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isOver(node, epoch)
}

// count is how many nodes have a lease.
func (r *roster) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.nodes)
}

// of is what is known of a node.
func (r *roster) of(node string) (leased, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, there := r.nodes[node]
	return n, there
}

// end is closed once a lease is over.
func (r *roster) end(node string, epoch uint64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	owner := messages.Owner(node, epoch)
	if e, waits := r.ends[owner]; waits {
		return e.over
	}
	over := make(chan struct{})
	if r.isOver(node, epoch) {
		close(over)
	} else {
		r.ends[owner] = ending{node, epoch, over}
	}
	return over
}
