package cluster

import (
	"maps"
	"os"
	"runtime/debug"
	"slices"

	"github.com/covey-run/covey/messages"
)

// info is what the node says of itself now.
func (n *Node) info() messages.NodeInfo {
	n.mu.Lock()
	draining := n.draining
	n.mu.Unlock()
	host, _ := os.Hostname() // "": it has none
	return messages.NodeInfo{
		Node: n.cfg.Name, Version: n.cfg.Version, Wire: messages.Version,
		Started: n.started, Host: host, PID: os.Getpid(),
		Pools: n.cfg.Pools, Tools: slices.Sorted(maps.Keys(n.cfg.Tools)), Queues: n.queue.serves(),
		Runs: len(n.rt.Runs()), MaxRuns: n.cfg.MaxRuns, MaxGuests: n.cfg.MaxGuests,
		Draining: draining, At: now(),
	}
}

// buildVersion is that of the program's main module, "dev" where it has none.
func buildVersion() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "dev"
}
