package openai

import (
	"context"
	"slices"
	"strings"

	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

// Ping asks the server for its list of models, which costs nothing. No server is
// class unavailable, a model that is not in the list class invalid, a wrong key
// class unauthorized. A server without such a list is taken at its word. Without
// a deadline in ctx it waits as long as the server does.
func (m *Model) Ping(ctx context.Context) error {
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	call := m.call()
	if err := m.client.Get(vendorhttp.Watch(ctx, call.Seen), "models", nil, &list); err != nil {
		e := call.Unsent(ctx, err)
		switch {
		case e.Status == 404 || e.Status == 405:
			return nil
		case e.Class == messages.Transient && e.Status == 0:
			e.Class = messages.Unavailable
		}
		return e
	}
	var names []string
	for _, d := range list.Data {
		if strings.TrimSuffix(d.ID, ":latest") == strings.TrimSuffix(m.cfg.Model, ":latest") {
			return nil
		}
		names = append(names, d.ID)
	}
	if len(names) == 0 {
		return nil
	}
	const most = 10
	slices.Sort(names)
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return messages.Errorf(messages.Invalid, m.source, "the server at %s has no model %q, it has: %s", m.base, m.cfg.Model, strings.Join(names, ", "))
}
