package actors

import (
	"context"
	"sync"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// gates tie the breakers of this node's providers to those of the others. A
// breaker is known to the others by its model's reference and account.
type gates struct {
	mu       sync.Mutex
	breakers map[string]*provider.Breaker // by shared name
	far      map[string]farOpening        // of breakers that are not here yet
}

type farOpening struct {
	until time.Time
	cause *messages.Error
}

// maxFar is how many openings are remembered of models that this node has not
// called.
const maxFar = 1000

// Opened tells the runtime that another node's breaker has opened.
func (g *gates) Opened(shared string, until time.Time, cause *messages.Error) {
	g.mu.Lock()
	b := g.breakers[shared]
	if b == nil {
		if len(g.far) >= maxFar {
			clear(g.far)
		}
		if g.far == nil {
			g.far = map[string]farOpening{}
		}
		g.far[shared] = farOpening{until, cause}
	}
	g.mu.Unlock()
	if b != nil {
		b.OpenUntil(until, cause)
	}
}

// Closed tells the runtime that another node's breaker has closed.
func (g *gates) Closed(shared string) {
	g.mu.Lock()
	b := g.breakers[shared]
	delete(g.far, shared)
	g.mu.Unlock()
	if b != nil {
		b.CloseFromAfar()
	}
}

// join has a breaker hear of the others, and of what they said before.
func (g *gates) join(shared string, b *provider.Breaker) {
	g.mu.Lock()
	if g.breakers == nil {
		g.breakers = map[string]*provider.Breaker{}
	}
	g.breakers[shared] = b
	far, ok := g.far[shared]
	delete(g.far, shared)
	g.mu.Unlock()
	if ok {
		b.OpenUntil(far.until, far.cause)
	}
}

// sharedName is what the nodes call a model's breaker.
func sharedName(ref string, m provider.Model) string {
	if a, ok := m.(provider.Accounted); ok {
		return ref + " at " + a.Account()
	}
	return ref
}

// renamed is a gate for one breaker, by its shared name.
type renamed struct {
	provider.Gate
	shared string
}

func (r renamed) Opened(_ string, until time.Time, cause *messages.Error) {
	r.Gate.Opened(r.shared, until, cause)
}

func (r renamed) Closed(string) { r.Gate.Closed(r.shared) }

func (r renamed) Probe(ctx context.Context, _ string, until time.Time) (func(bool), bool) {
	return r.Gate.Probe(ctx, r.shared, until)
}
