package actors

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// settle checks what is configured, before anything is started with it.
func (rt *Runtime) settle(ctx context.Context) (err error) {
	if rt.ways, err = lru.New[callKey, *way](maxCalls); err != nil {
		return err
	}
	if rt.cfg.Settings == nil {
		code := provider.Level{Providers: map[string]provider.Settings{}}
		for name, c := range rt.cfg.Providers {
			code.Providers[name] = provider.SettingsOf(c)
		}
		if rt.cfg.Settings, err = provider.NewResolver(provider.Levels{Code: code}); err != nil {
			return err
		}
	}
	if err := rt.openRouters(ctx); err != nil {
		return err
	}
	for _, rungs := range rt.cfg.Settings.Fallbacks() {
		if err := rt.checkRungs(rungs); err != nil {
			return err
		}
	}
	return nil
}

// newStack makes the stack of a model, which its actor keeps over restarts.
// limits are its rate limits in words, "" for none.
func (rt *Runtime) newStack(ref string, client provider.Model) (stack *provider.Stack, limits string, err error) {
	name, _ := provider.Split(ref)
	cfg, err := rt.cfg.Settings.Stack(name, rt.cfg.Providers[name])
	if err != nil {
		return nil, "", err
	}
	cfg.Name, cfg.Clock, cfg.Observe = ref, rt.sys.Clock(), rt.observe
	shared := sharedName(ref, client)
	if rt.cfg.Gate != nil {
		cfg.Breaker.Gate = renamed{rt.cfg.Gate, shared}
	}
	if stack, err = provider.NewStack(cfg); err != nil {
		return nil, "", err
	}
	if rt.cfg.Gate != nil {
		rt.gates.join(shared, stack.Breaker)
	}
	var words []string
	if n := cfg.Limiter.RequestsPerMinute; n > 0 {
		words = append(words, fmt.Sprintf("%d requests/min", n))
	}
	if n := cfg.Limiter.TokensPerMinute; n > 0 {
		words = append(words, fmt.Sprintf("%d tokens/min", n))
	}
	return stack, strings.Join(words, " and "), nil
}

// Heard is where the others' words on their breakers come in: what a [Gate]
// hears.
func (rt *Runtime) Heard() interface {
	Opened(name string, until time.Time, cause *messages.Error)
	Closed(name string)
} {
	return &rt.gates
}

// observe passes on an event of a stack or a ladder. A session is a run.
func (rt *Runtime) observe(ev messages.Event) {
	if events := rt.sys.Events(); events.Wanted() {
		if ev.Time.IsZero() {
			ev.Time = rt.sys.Clock().Now()
		}
		if ev.Run == "" {
			ev.Run = ev.Session
		}
		events.Emit(ev)
	}
}

// ProviderStatus is what a model's actor holds at a moment.
type ProviderStatus struct {
	Model            string
	Running, Waiting int
	Breaker          provider.BreakerState
}

// Providers are the models whose actors run, sorted.
func (rt *Runtime) Providers() []ProviderStatus {
	rt.making.Lock()
	states := maps.Clone(rt.states)
	rt.making.Unlock()
	var all []ProviderStatus
	for _, ref := range slices.Sorted(maps.Keys(states)) {
		s := states[ref].stack
		all = append(all, ProviderStatus{Model: ref, Running: s.Queue.InFlight(), Waiting: s.Queue.Depth(), Breaker: s.Breaker.State()})
	}
	return all
}

// report is the provider's line in the live tree.
func (st *providerState) report() messages.Status {
	s := messages.Status{State: messages.Idle, Detail: map[string]string{"breaker": string(st.stack.Breaker.State())}}
	if n := st.stack.Queue.InFlight(); n > 0 {
		s.State = messages.Running
		s.Detail["in_flight"] = strconv.Itoa(n)
	}
	if n := st.stack.Queue.Depth(); n > 0 {
		s.Detail["waiting"] = strconv.Itoa(n)
	}
	if c := st.stack.Cache; c != nil {
		s.Detail["cached"] = strconv.Itoa(c.Len())
	}
	if st.limits != "" {
		s.Detail["limits"] = st.limits
	}
	if a := st.stack.Adaptive; a != nil {
		if share, calls := a.Success(); calls > 0 {
			s.Detail["success"] = fmt.Sprintf("%.0f%% of %d", share*100, calls)
		}
	}
	if until := st.stack.Breaker.Until(); !until.IsZero() {
		s.State, s.Until = messages.Parked, until
	}
	return s
}
