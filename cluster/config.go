package cluster

import (
	"encoding/json"
	"log/slog"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/internal/metrics"
	"github.com/covey-run/covey/messages"
)

// Config describes a node. The zero value is a node of its own: an embedded NATS
// server that listens nowhere, with its data in ./.covey.
type Config struct {
	// URL joins NATS servers that run already: "nats://host:4222", several
	// separated by commas. Zero: an embedded server.
	URL string
	// Credentials are shown to the servers at URL. Zero: none.
	Credentials Credentials
	// Cluster makes the embedded server one of several. Zero: it is alone, and
	// listens nowhere.
	Cluster *ClusterConfig
	// Replicas is how many servers keep each record of a stream that this node
	// makes. Zero: 3 where the servers are a cluster, else 1. A cluster of two, or
	// one whose account is allowed less, needs it said.
	Replicas int
	// Dir is the data directory of the embedded server. Zero: ".covey". One
	// process owns it at a time. Not used with URL.
	Dir string
	// Durability says what the embedded server's records survive. Zero:
	// SurviveProcess.
	Durability Durability
	// Name is the node's name in the tree and in claims. Zero: "node-" and six
	// letters, new at each start. It must not be that of another live node.
	Name string
	// Version is the program's, as the node tells it. Zero: that of the program's
	// main module.
	Version string
	// MaxRuns is how many runs the node works on at once; more wait in the
	// queue. Zero: 16.
	MaxRuns int
	// Pools are the pools that the node belongs to; an agent with a Pool lives on
	// a node of it.
	Pools []string
	// Tools are what the node lends to members that use them (actors.Agent's
	// Uses), by their names.
	Tools map[string]tool.Tool
	// MaxGuests is how many members of other nodes' runs live on the node at once.
	// Zero: 256.
	MaxGuests int
	// Models adds model providers, or replaces the built-in "ollama",
	// "anthropic", "openai" and "scripted", by name.
	Models map[string]provider.Factory
	// Providers tunes what is around a provider's models, by name: what code
	// says, the lowest level of Settings.
	Providers map[string]provider.StackConfig
	// Settings are what code, a file and the environment say of providers and of
	// types of call; see [provider.Levels]. An Environ of nil is the process's.
	Settings provider.Levels
	// Routers choose among models, call by call; they are the models
	// "router/NAME". What one learns is kept in NATS.
	Routers map[string]route.Settings
	// Rules are the Go functions that a fallback may name, as "rule:NAME".
	Rules map[string]provider.Rule
	// Metrics is the address, "127.0.0.1:9464", at which the node serves
	// Prometheus metrics (/metrics) and its models' health (/health). "": it
	// serves none. An address that other machines reach needs MetricsToken, of at
	// least 16 bytes, which every request must then carry ("Authorization: Bearer
	// TOKEN").
	Metrics, MetricsToken string
	// Load makes a team of the definition in a task or in a run's first record,
	// so that the node can work on teams that it was not given in code. nil:
	// only those.
	Load func(definition json.RawMessage) (actors.Member, error)
	// Logger gets what has no caller to go to, at Warn and Error, and the
	// server's notices at Debug. nil: slog.Default().
	Logger *slog.Logger
	// Clock is the time that backoffs go by. nil: the real one.
	Clock clockwork.Clock

	lease leaseTimes
}

// Check returns an error of class invalid that names the first field that is
// wrong.
func (c Config) Check() error {
	if c.URL != "" && c.Dir != "" {
		return messages.Errorf(messages.Invalid, "", "config: dir: %q is not allowed together with a URL: use one of them", c.Dir)
	}
	if c.URL != "" && c.Durability != "" {
		return messages.Errorf(messages.Invalid, "", "config: durability: %q is not allowed together with a URL: it is that server's own setting", c.Durability)
	}
	if err := c.Durability.Check(); err != nil {
		return err
	}
	if c.Name != "" {
		if err := messages.CheckName("config: name", c.Name); err != nil {
			return err
		}
	}
	if c.Cluster != nil {
		if err := c.Cluster.check(c); err != nil {
			return err
		}
	}
	if c.URL == "" && c.Credentials != (Credentials{}) {
		return messages.Errorf(messages.Invalid, "", "config: credentials: not allowed without a URL: they are for its servers")
	}
	if err := c.Credentials.check(); err != nil {
		return err
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		return messages.Errorf(messages.Invalid, "", "config: replicas: %d is not allowed: use 1 to 5, or 0 for what the servers are", c.Replicas)
	}
	if c.MaxRuns < 0 {
		return messages.Errorf(messages.Invalid, "", "config: max_runs: %d is not allowed: use 0 (for 16) or more", c.MaxRuns)
	}
	if c.Metrics != "" {
		if err := metrics.CheckAddress(c.Metrics, c.MetricsToken); err != nil {
			return err
		}
	}
	if c.MaxGuests < 0 {
		return messages.Errorf(messages.Invalid, "", "config: max_guests: %d is not allowed: use 0 (for 256) or more", c.MaxGuests)
	}
	for _, p := range c.Pools {
		if err := messages.CheckName("config: pools", p); err != nil {
			return err
		}
	}
	for name, t := range c.Tools {
		if name != t.Name {
			return messages.Errorf(messages.Invalid, "", "config: tools: %q is not allowed as the key of the tool %q: use its name", name, t.Name)
		}
	}
	for name, p := range c.Providers {
		if err := p.Check(); err != nil {
			return messages.Errorf(messages.Invalid, "", "config: providers: %s: %w", name, err)
		}
	}
	return nil
}

// shared reports whether the node has, or may have, other nodes.
func (c Config) shared() bool { return c.URL != "" || c.Cluster != nil }

func (c Config) withDefaults() Config {
	if c.Dir == "" {
		c.Dir = DefaultDir
	}
	if c.Name == "" {
		c.Name = "node-" + NewID()[:6]
	}
	if c.Version == "" {
		c.Version = buildVersion()
	}
	if c.MaxRuns == 0 {
		c.MaxRuns = 16
	}
	if c.MaxGuests == 0 {
		c.MaxGuests = 256
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = clockwork.NewRealClock()
	}
	return c
}

// DefaultDir is the data directory of a node that is told none.
const DefaultDir = ".covey"
