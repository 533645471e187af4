package actors

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/messages"
)

// openRouters makes the configured routers, over the models behind their
// providers' actors.
func (rt *Runtime) openRouters(ctx context.Context) error {
	rt.routers = map[string]route.Router{}
	for _, name := range slices.Sorted(maps.Keys(rt.cfg.Routers)) {
		s := rt.cfg.Routers[name]
		if err := messages.CheckName("routers", name); err != nil {
			return err
		}
		for _, ref := range s.Refs() {
			if of, _ := provider.Split(ref); of == route.Provider {
				return messages.Errorf(messages.Invalid, "", "routers.%s: %q is not allowed: use models, not routers", name, ref)
			}
		}
		if err := rt.checkRungs(s.Refs()); err != nil {
			return messages.Errorf(messages.Invalid, "", "routers.%s: %w", name, err)
		}
		r, err := s.New(ctx, name, route.Parts{Model: rt.Model, Price: rt.price, Store: rt.cfg.Learned, Clock: rt.sys.Clock(), Observe: rt.observe})
		if err != nil {
			return messages.Errorf(messages.Invalid, "", "routers.%s: %w", name, err)
		}
		rt.routers[name] = r
	}
	return nil
}

// price is what the settings say that a model costs.
func (rt *Runtime) price(ref string) (provider.Price, bool) {
	name, model := provider.Split(ref)
	e, err := rt.cfg.Settings.Resolve(name, "", nil)
	if err != nil {
		return provider.Price{}, false
	}
	p, ok := e.Settings.Prices[model]
	return p, ok
}

// router is the router of a reference; false if the reference is none's.
func (rt *Runtime) router(ref string) (m provider.Model, is bool, err error) {
	of, name := provider.Split(ref)
	if of != route.Provider {
		return nil, false, nil
	}
	r, ok := rt.routers[name]
	if !ok {
		return nil, true, messages.Errorf(messages.Invalid, "", "model %q: no router is called %q; known are %q", ref, name, slices.Sorted(maps.Keys(rt.routers)))
	}
	return r, true, nil
}

// pingRouter says whether one of a router's choices would work.
func (rt *Runtime) pingRouter(ctx context.Context, ref string) error {
	if _, _, err := rt.router(ref); err != nil {
		return err
	}
	_, name := provider.Split(ref)
	var errs []error
	for _, choice := range rt.cfg.Routers[name].Refs() {
		err := rt.Ping(ctx, choice)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Close waits, within ctx, for the last words to other nodes, and saves what the routers have
// learned.
func (rt *Runtime) Close(ctx context.Context) error {
	left := make(chan struct{})
	go func() {
		rt.leaving.Wait() // each is bounded
		close(left)
	}()
	select {
	case <-left:
	case <-ctx.Done():
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(rt.routers)) {
		errs = append(errs, rt.routers[name].Close(ctx))
	}
	return errors.Join(errs...)
}
