package actors

import (
	"context"
	"iter"
	"runtime/debug"
	"strings"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// providerState is what a provider's actor keeps over its restarts: the queue,
// the limits, the cache, the breaker and its memory of failures.
type providerState struct {
	ref    string
	stack  *provider.Stack
	limits string // in words, for the live tree
	actor  supervisor.Ref
}

// providerActor owns one model client. A restart makes a new client behind the
// same queue and breaker.
type providerActor struct {
	state  *providerState
	client *client
	model  provider.Model // the client behind the stack
}

// client is one incarnation's.
type client struct{ provider.Model }

type (
	// lease asks for the model to call.
	lease struct{}
	// clientCrashed reports a panic in the client of one incarnation.
	clientCrashed struct {
		of  *client
		err *messages.Error
	}
)

func (p *providerActor) Receive(c *supervisor.Context, msg any) error {
	switch m := msg.(type) {
	case lease:
		c.Reply(p.model)
	case clientCrashed:
		if m.of == p.client { // calls of a client that was replaced crash too
			return m.err
		}
	}
	return nil
}

func (p *providerActor) Report() messages.Status { return p.state.report() }

// spawnProvider starts the actor of a model reference.
func (rt *Runtime) spawnProvider(ctx context.Context, ref string) (*providerState, error) {
	first, err := rt.cfg.Models.Model(ref)
	if err != nil { // a reference that never can work
		return nil, err
	}
	stack, limits, err := rt.newStack(ref, first)
	if err != nil {
		return nil, err
	}
	st := &providerState{ref: ref, stack: stack, limits: limits}
	// Not under the caller's context: it could end with the actor there, and
	// nobody knowing.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spawnWait)
	defer cancel()
	st.actor, err = rt.sys.Spawn(ctx, rt.providers, supervisor.Spec{
		Name: strings.ReplaceAll(ref, "/", ":"), Kind: "provider",
		New: func() (supervisor.Actor, error) {
			m, err := rt.cfg.Models.Model(ref)
			if err != nil {
				return nil, err
			}
			mine := &client{m}
			return &providerActor{st, mine, stack.Wrap(guarded(mine, st))}, nil
		},
	})
	return st, err
}

// guarded turns a panic of the client into an error of the call, and reports it
// to the provider's actor, which then makes a new client.
func guarded(m *client, st *providerState) provider.Model {
	return provider.Func(func(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			inside := true // not in the consumer's code
			defer func() {
				if !inside {
					return
				}
				if r := recover(); r != nil {
					e := messages.Errorf(messages.Crashed, st.ref, "the client panicked: %v", r)
					e.Stack = string(debug.Stack())
					st.actor.Tell(clientCrashed{m, e})
					inside = false
					down := messages.Errorf(messages.Unavailable, "", "%w", e)
					down.Stack = e.Stack
					yield(provider.Chunk{}, down)
				}
			}()
			for c, err := range m.Stream(ctx, req) {
				inside = false
				more := yield(c, err)
				inside = true
				if !more {
					return
				}
			}
		}
	})
}

// leaseWait bounds the wait for a provider's actor that is in a backoff.
const leaseWait = 10 * time.Second

func (rt *Runtime) lease(ctx context.Context, ref string) (provider.Model, error) {
	st, err := rt.provider(ctx, ref)
	if err != nil {
		return nil, err
	}
	bound, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	m, err := supervisor.Ask[provider.Model](bound, st.actor, lease{})
	if err != nil && ctx.Err() == nil {
		return nil, messages.Errorf(messages.Unavailable, ref, "the provider is not there: %w", err)
	}
	return m, err
}

// provider returns the state of a reference's actor, which is spawned when it is
// first needed.
func (rt *Runtime) provider(ctx context.Context, ref string) (*providerState, error) {
	rt.making.Lock()
	defer rt.making.Unlock()
	if st, ok := rt.states[ref]; ok {
		return st, nil
	}
	st, err := rt.spawnProvider(ctx, ref)
	if err != nil {
		return nil, err
	}
	rt.states[ref] = st
	return st, nil
}

// Ping says whether a reference's model would work, where its client can tell
// without a call.
func (rt *Runtime) Ping(ctx context.Context, ref string) error {
	if name, _ := provider.Split(ref); name == route.Provider {
		return rt.pingRouter(ctx, ref)
	}
	m, err := rt.cfg.Models.Model(ref)
	if err != nil {
		return err
	}
	if p, ok := m.(provider.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}
