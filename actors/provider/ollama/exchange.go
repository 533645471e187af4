package ollama

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/covey-run/covey/actors/provider"
)

// exchange is what Ollama's client does not pass on of one HTTP exchange.
type exchange struct {
	// retryAfter is the wait that the server asked for.
	retryAfter time.Duration
	// broke is why reading the body failed: the client takes a broken stream for
	// one that ended.
	broke error
}

type exchangeKey struct{}

func withExchange(ctx context.Context, e *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, e)
}

// watch is a transport that fills the exchange of a request's context.
type watch struct{ next http.RoundTripper }

func (w watch) RoundTrip(req *http.Request) (*http.Response, error) {
	next := w.next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(req)
	e, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if err != nil || !ok {
		return res, err
	}
	if v := res.Header.Get("Retry-After"); v != "" {
		e.retryAfter = provider.RetryAfter(v, time.Now())
	}
	res.Body = &watchedBody{res.Body, e}
	return res, nil
}

type watchedBody struct {
	io.ReadCloser
	e *exchange
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.e.broke = err
	}
	return n, err
}
