package cluster

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/anthropic"
	"github.com/covey-run/covey/actors/provider/ollama"
	"github.com/covey-run/covey/actors/provider/openai"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/messages"
)

// builtin are the providers that every node has.
func builtin() map[string]provider.Factory {
	return map[string]provider.Factory{
		"ollama":    ollama.Factory(ollama.Config{}),
		"anthropic": anthropic.Factory(anthropic.Config{}),
		"openai":    openai.Factory(openai.Config{}),
		"scripted":  func(string) (provider.Model, error) { return scripted.Default(), nil },
	}
}

// Registry is the built-in providers, and those of c.
func (c Config) Registry() (*provider.Registry, error) {
	r := &provider.Registry{}
	all := builtin()
	maps.Copy(all, c.Models)
	for name, f := range all {
		if err := r.Register(name, f); err != nil {
			return nil, messages.Errorf(messages.Invalid, "", "config: models: %w", err)
		}
	}
	return r, nil
}

// Resolver answers what settings hold on a node of this configuration: what
// Providers and Settings say, and the environment.
func (c Config) Resolver() (*provider.Resolver, error) {
	l := c.Settings
	code := maps.Clone(l.Code.Providers)
	if code == nil {
		code = map[string]provider.Settings{}
	}
	for name, p := range c.Providers {
		if _, ok := code[name]; ok {
			return nil, messages.Errorf(messages.Invalid, "", "config: providers.%s: not allowed together with settings.code.providers.%s: use one of them", name, name)
		}
		code[name] = provider.SettingsOf(p)
	}
	l.Code.Providers = code
	if l.Environ == nil {
		l.Environ = os.Environ()
	}
	return provider.NewResolver(l, append(slices.Collect(maps.Keys(builtin())), slices.Collect(maps.Keys(c.Models))...)...)
}

// startRuntime makes the runtime, with what it needs of this node: settings, the
// others' breakers, the parking place.
func (n *Node) startRuntime(ctx context.Context) error {
	models, err := n.cfg.Registry()
	if err != nil {
		return err
	}
	settings, err := n.cfg.Resolver()
	if err != nil {
		return err
	}
	cfg := actors.RuntimeConfig{
		Models: models, Providers: n.cfg.Providers, Settings: settings, Rules: n.cfg.Rules, Routers: n.cfg.Routers, Learned: learned{n.nc, n.cfg.Replicas}, Node: n.cfg.Name,
		Pools: n.cfg.Pools, Tools: n.cfg.Tools, MaxGuests: n.cfg.MaxGuests,
		Parker: &parking{nc: n.nc, replicas: n.cfg.Replicas, parked: n.parked},
	}
	late := &lateHeard{}
	if n.cluster != nil {
		cfg.Nodes = n.cluster
	}
	if n.cfg.shared() {
		h := heard{Opened: late.opened, Closed: late.closed}
		g, err := openGate(ctx, n.nc, n.cfg.Replicas, n.cfg.Name, h, n.warn("breakers"))
		if err != nil {
			n.warn("breakers: this node's are its own alone")(err)
		} else {
			n.gate, cfg.Gate = g, g
		}
	}
	n.rt, err = actors.NewRuntime(ctx, n.sys, n.client.journal, n.bus, cfg)
	if err == nil {
		late.arrive(n.rt.Heard())
	}
	return err
}

// parked tells that a call waits for a person.
func (n *Node) parked(id string, call provider.ParkedCall) {
	n.sys.Events().Emit(messages.Event{
		Kind: messages.CallParked, Time: n.cfg.Clock.Now(), Name: call.Ladder, Text: id,
		Run: call.Request.Session, Session: call.Request.Session, Call: call.Request.Kind,
	})
}

type hearer interface {
	Opened(name string, until time.Time, cause *messages.Error)
	Closed(name string)
}

// lateHeard passes on what a gate hears, and keeps what it hears before there is
// anybody to tell.
type lateHeard struct {
	mu     sync.Mutex
	to     hearer
	before []func(hearer)
}

func (l *lateHeard) opened(name string, until time.Time, cause *messages.Error) {
	l.tell(func(to hearer) { to.Opened(name, until, cause) })
}

func (l *lateHeard) closed(name string) { l.tell(func(to hearer) { to.Closed(name) }) }

func (l *lateHeard) tell(what func(hearer)) {
	l.mu.Lock()
	to := l.to
	if to == nil {
		l.before = append(l.before, what)
	}
	l.mu.Unlock()
	if to != nil {
		what(to)
	}
}

func (l *lateHeard) arrive(to hearer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, what := range l.before {
		what(to)
	}
	l.to, l.before = to, nil
}
