package actors

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/messages"
)

// maxCalls is how many ways of calling a runtime remembers: a model, a type of
// call, and the call's own settings.
const maxCalls = 512

// callKey is one way of calling.
type callKey struct {
	ref, kind string
	own       *provider.Settings
	rung      bool // below another model: without a fallback of its own
}

// way is how such calls go: behind the provider's actor, read and judged where
// that is set, and on to the rungs below.
type way struct {
	model provider.Model
	rungs []string // below the first
}

// Model is the model of a reference, behind its provider's actor: every call
// goes through that actor's stack, and falls to the rungs that are set for it.
func (rt *Runtime) Model(ref string) provider.Model { return rt.ModelWith(ref, nil) }

// ModelWith is Model for calls with settings of their own, the highest of the
// four levels ([provider.Levels]). They must not be changed afterwards. nil:
// none.
func (rt *Runtime) ModelWith(ref string, own *provider.Settings) provider.Model {
	return provider.Func(func(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			w, err := rt.way(callKey{ref: ref, kind: req.Kind, own: own})
			if err != nil {
				yield(provider.Chunk{}, err)
				return
			}
			w.model.Stream(ctx, req)(yield)
		}
	})
}

// way returns how calls of a key go.
func (rt *Runtime) way(key callKey) (*way, error) {
	if w, ok := rt.ways.Get(key); ok {
		return w, nil
	}
	name, _ := provider.Split(key.ref)
	e, err := rt.cfg.Settings.Resolve(name, key.kind, key.own)
	if err != nil {
		return nil, err
	}
	w := &way{model: rt.direct(key.ref, e.Override(key.own))}
	if c := e.Output(provider.OutputConfig{Name: key.ref, Clock: rt.sys.Clock(), Observe: rt.observe}); c != nil {
		o, err := provider.NewOutput(*c)
		if err != nil {
			return nil, err
		}
		w.model = o.Wrap(w.model)
	}
	if w.rungs = e.Rungs(); key.rung {
		w.rungs = nil
	}
	if len(w.rungs) > 0 {
		if w.model, err = rt.ladder(key, w, e.Settings.Fallback.Canned); err != nil {
			return nil, err
		}
	}
	rt.ways.Add(key, w)
	return w, nil
}

// direct is a model behind its provider's actor, or a router.
func (rt *Runtime) direct(ref string, override *provider.Override) provider.Model {
	return provider.Func(func(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			m, is, err := rt.router(ref)
			if !is {
				m, err = rt.lease(ctx, ref)
			}
			if err != nil {
				yield(provider.Chunk{}, err)
				return
			}
			if override != nil && req.Override == nil {
				own := *req
				own.Override = override
				req = &own
			}
			m.Stream(ctx, req)(yield)
		}
	})
}

// ladder is the first choice and the rungs below it. Each rung that is a model
// goes through its own provider's actor, with that provider's settings and
// without that one's fallback.
func (rt *Runtime) ladder(key callKey, first *way, texts map[string]string) (provider.Model, error) {
	rungs := []provider.Rung{provider.RungOf(key.ref, first.model)}
	for _, ref := range first.rungs {
		rule, isRule := strings.CutPrefix(ref, provider.RungNameRule)
		switch {
		case ref == provider.RungNameCanned:
			rungs = append(rungs, provider.RungCanned(canned(texts)))
		case ref == provider.RungNameParked:
			rungs = append(rungs, provider.RungParked(key.ref, rt.cfg.Parker))
		case isRule:
			rungs = append(rungs, provider.RungRule(ref, rt.cfg.Rules[rule]))
		default:
			below := key
			below.ref, below.rung = ref, true
			rungs = append(rungs, provider.Rung{Name: ref, Make: func() (provider.Model, error) {
				w, err := rt.way(below)
				if err != nil {
					return nil, err
				}
				return w.model, nil
			}})
		}
	}
	return provider.NewLadder(provider.LadderConfig{Name: key.ref, Rungs: rungs, Clock: rt.sys.Clock(), Observe: rt.observe})
}

// canned names the text for every other type of call as a ladder does.
func canned(texts map[string]string) provider.Canned {
	c := provider.Canned{}
	for kind, text := range texts {
		if kind == "default" {
			kind = ""
		}
		c[kind] = text
	}
	return c
}

// CheckModels refuses a member whose models, or the rungs below them, nobody
// knows, or whose settings are out of range. It makes no call. An agent that
// must live on another node is checked there.
func (rt *Runtime) CheckModels(m Member) error {
	switch m := m.(type) {
	case Team:
		for _, sub := range m.Members {
			if err := rt.CheckModels(sub); err != nil {
				return err
			}
		}
	case Agent:
		if m.External != "" || rt.away(m) { // its home checks
			return nil
		}
		name, _ := provider.Split(m.Model)
		e, err := rt.cfg.Settings.Resolve(name, m.Kind, m.Settings())
		if err == nil {
			err = rt.checkRungs(append([]string{m.Model}, e.Rungs()...))
		}
		if err != nil {
			return messages.Errorf(messages.Invalid, "", "agent %q: %w", m.Name, err)
		}
	}
	return nil
}

// checkRungs refuses a reference of a provider, a rule or a place that is not
// there.
func (rt *Runtime) checkRungs(refs []string) error {
	for _, ref := range refs {
		rule, isRule := strings.CutPrefix(ref, provider.RungNameRule)
		name, _ := provider.Split(ref)
		switch {
		case ref == provider.RungNameCanned:
		case ref == provider.RungNameParked:
			if rt.cfg.Parker == nil {
				return messages.Errorf(messages.Invalid, "", "fallback: %q is not allowed: there is no parking place here", ref)
			}
		case isRule:
			if rt.cfg.Rules[rule] == nil {
				return messages.Errorf(messages.Invalid, "", "fallback: %q is not allowed: the program has no rule of that name", ref)
			}
		case name == route.Provider:
			if _, _, err := rt.router(ref); err != nil {
				return err
			}
		case !slices.Contains(rt.cfg.Models.Names(), name):
			return messages.Errorf(messages.Invalid, "", "model %q: no provider is called %q; known are: %s", ref, name, strings.Join(rt.cfg.Models.Names(), ", "))
		}
	}
	return nil
}

// PingAgent says whether an agent's model, or one of the rungs below it, would
// work. A rung that is no model always does; an agent that must live on another
// node, or that a program serves, is taken at its word.
func (rt *Runtime) PingAgent(ctx context.Context, a Agent) error {
	if a.External != "" || rt.away(a) {
		return nil
	}
	w, err := rt.way(callKey{ref: a.Model, kind: a.Kind, own: a.Settings()})
	if err != nil {
		return err
	}
	var errs []error
	for _, ref := range append([]string{a.Model}, w.rungs...) {
		if ref == provider.RungNameCanned || ref == provider.RungNameParked || strings.HasPrefix(ref, provider.RungNameRule) {
			return nil
		}
		err := rt.Ping(ctx, ref)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Settings are those of the agent's own calls, its fallback included; nil for
// none.
func (a Agent) Settings() *provider.Settings {
	if len(a.Fallback) == 0 {
		return a.Calls
	}
	var s provider.Settings
	if a.Calls != nil {
		s = *a.Calls
	}
	f := provider.FallbackSettings{}
	if s.Fallback != nil {
		f = *s.Fallback
	}
	f.Rungs = a.Fallback
	s.Fallback = &f
	return &s
}
