package provider

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/covey-run/covey/messages"
)

// Factory makes the model that a provider knows by this name; "" is the
// provider's default, if it has one. It makes no call.
type Factory func(model string) (Model, error)

// Pinger is a Model that can say, without a model call, whether it would work:
// its error says what was tried and what to do. Clients implement it, the
// middlewares do not.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Split parts a reference at its first slash: "ollama/llama3.2" is model
// "llama3.2" of provider "ollama"; "scripted" names a provider alone.
func Split(ref string) (provider, model string) {
	provider, model, _ = strings.Cut(ref, "/")
	return provider, model
}

// Registry finds models by reference. The zero value is empty and ready. It is
// safe for concurrent use.
type Registry struct {
	mu        sync.RWMutex
	factories map[string]Factory
}

// Register makes a provider known; a later one of the same name replaces it.
// A name that is empty or holds a slash, or a nil factory, is an error of class
// invalid.
func (r *Registry) Register(name string, f Factory) error {
	if name == "" || strings.Contains(name, "/") {
		return messages.Errorf(messages.Invalid, "", "provider name %q is not allowed: use a name without a slash", name)
	}
	if f == nil {
		return messages.Errorf(messages.Invalid, "", "provider %q has no factory", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.factories == nil {
		r.factories = map[string]Factory{}
	}
	r.factories[name] = f
	return nil
}

// Names returns the known providers, sorted.
func (r *Registry) Names() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.factories))
}

// Model makes the model of a reference. An unknown provider is an error of
// class invalid that names the known ones.
func (r *Registry) Model(ref string) (Model, error) {
	name, model := Split(ref)
	r.mu.RLock()
	f := r.factories[name]
	r.mu.RUnlock()
	if f == nil {
		known := strings.Join(r.Names(), ", ")
		if known == "" {
			known = "none"
		}
		return nil, messages.Errorf(messages.Invalid, "", "model %q: no provider is called %q; known are: %s", ref, name, known)
	}
	return f(model)
}
