package cluster

import (
	"maps"
	"os"
	"runtime/debug"
	"slices"

	"github.com/covey-run/covey/messages"
)

// self is what the node says of itself now.
func (n *Node) self() messages.NodeInfo {
	i := n.info()
	if n.cluster != nil {
		i.Epoch = n.cluster.lease.current()
	}
	return i
}

// info is self without the lease's epoch; also while the node starts.
func (n *Node) info() messages.NodeInfo {
	n.mu.Lock()
	draining := n.draining
	n.mu.Unlock()
	host, _ := os.Hostname() // "": it has none
	i := messages.NodeInfo{
		Node: n.cfg.Name, Version: n.cfg.Version, Wire: messages.Version,
		Started: n.started, Host: host, PID: os.Getpid(),
		Pools: n.cfg.Pools, Tools: slices.Sorted(maps.Keys(n.cfg.Tools)),
		MaxRuns: n.cfg.MaxRuns, MaxGuests: n.cfg.MaxGuests,
		Draining: draining, At: now(),
	}
	if n.ready.Load() {
		i.Queues, i.Runs, i.Guests = n.queue.serves(), n.rt.Resident(), n.rt.Guests()
	}
	return i
}

// buildVersion is that of the program's main module, "dev" where it has none.
func buildVersion() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "dev"
}
