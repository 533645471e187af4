package ollama

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/ollama/ollama/api"

	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

// Ping asks the server whether it is there and has the model, without loading
// it. No server is class unavailable, no such model class invalid, and the
// error says what to do. Without a deadline in ctx it waits as long as the
// server does.
func (m *Model) Ping(ctx context.Context) error {
	seen := &vendorhttp.Exchange{}
	_, err := m.client.Show(vendorhttp.Watch(ctx, seen), &api.ShowRequest{Model: m.model})
	if err == nil {
		return nil
	}
	var status api.StatusError
	if errors.As(err, &status) && status.StatusCode == http.StatusNotFound {
		return messages.Errorf(messages.Invalid, m.source, "the server at %s has no model %q, it has: %s; get it with: ollama pull %s",
			m.base, m.model, m.models(ctx), m.model)
	}
	e := messages.AsError(m.failure(ctx, err, seen, 0), messages.Transient, m.source)
	if e.Class == messages.Transient && e.Status == 0 {
		e.Class = messages.Unavailable
		e.Message += ", and get the model with: ollama pull " + m.model
	}
	return e
}

// models names what the server has, for a person.
func (m *Model) models(ctx context.Context) string {
	list, err := m.client.List(ctx)
	if err != nil || len(list.Models) == 0 {
		return "none"
	}
	const most = 10
	var names []string
	for _, l := range list.Models {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, l.Name)
	}
	return strings.Join(names, ", ")
}
