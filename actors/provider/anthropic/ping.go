package anthropic

import (
	"context"
	"net/url"

	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

// Ping asks the server for the model's card, which costs nothing. No server is
// class unavailable, no such model class invalid, a wrong key class
// unauthorized. Without a deadline in ctx it waits as long as the server does.
func (m *Model) Ping(ctx context.Context) error {
	call := m.call()
	var card map[string]any
	err := m.client.Get(vendorhttp.Watch(ctx, call.Seen), "v1/models/"+url.PathEscape(m.cfg.Model), nil, &card)
	if err == nil {
		return nil
	}
	e := call.Unsent(ctx, err)
	if e.Class == messages.Transient && e.Status == 0 {
		e.Class = messages.Unavailable
	}
	return e
}
