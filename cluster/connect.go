package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
)

// connEvents are told of what happens to a connection, on NATS's own goroutine:
// they must not block. nil fields are skipped.
type connEvents struct {
	// Lost: the connection went away (err may be nil); it is being restored.
	Lost func(err error)
	// Restored: it is back, subscriptions included.
	Restored func()
	// Failed: an error that has no caller, such as a subscriber too slow for its
	// messages or a permission that is missing.
	Failed func(err error)
}

// commonOptions are the same for every connection: back for ever, with jitter;
// a dead server noticed within 3 s; and no buffer for what is published while
// the connection is away, since whoever published tries again itself.
func commonOptions(name string, h connEvents) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(400*time.Millisecond, 400*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if h.Lost != nil {
				h.Lost(err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			if h.Restored != nil {
				h.Restored()
			}
		}),
		nats.ErrorHandler(func(nc *nats.Conn, s *nats.Subscription, err error) {
			refused(nc, err)
			if h.Failed == nil {
				return
			}
			if s != nil {
				err = fmt.Errorf("%s: %w", s.Subject, err)
			}
			h.Failed(err)
		}),
	}
}

var schemes = []string{"nats", "tls", "ws", "wss"}

// connect joins the NATS servers of a comma-separated list of URLs. It fails at
// once when none of them takes the connection, and never prints what a URL says
// before its @. Once connected it comes back for ever.
func connect(ctx context.Context, urls, name string, h connEvents, extra ...nats.Option) (*nats.Conn, error) {
	shown := redact(urls)
	for u := range strings.SplitSeq(urls, ",") {
		if p, err := url.Parse(strings.TrimSpace(u)); err != nil || p.Host == "" || !slices.Contains(schemes, p.Scheme) {
			return nil, messages.Errorf(messages.Invalid, "", "URL: %q is none: use nats://host:port or tls://host:port", redact(u))
		}
	}
	timeout := 5 * time.Second
	if d, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(d))
	}
	if err := ctx.Err(); err != nil || timeout <= 0 {
		return nil, messages.Errorf(messages.Timeout, shown, "no time to connect")
	}
	nc, err := nats.Connect(urls, append(append(commonOptions(name, h), nats.Timeout(timeout)), extra...)...)
	switch {
	case err == nil:
		return nc, nil
	case errors.Is(err, nats.ErrNoServers):
		return nil, messages.Errorf(messages.Unavailable, shown, "no NATS server answers there: %w", err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return nil, messages.Errorf(messages.Unauthorized, shown, "the NATS server refuses these credentials: %w", err)
	}
	if err := distrust(err, shown); err != nil {
		return nil, err
	}
	if shown != urls { // the error's text may quote a credential
		return nil, messages.Errorf(messages.Unavailable, shown, "cannot connect (the reason is not shown, for the URL holds a credential)")
	}
	return nil, messages.Errorf(messages.Unavailable, shown, "cannot connect: %w", err)
}

// redact returns a list of URLs without what stands before their @.
func redact(urls string) string {
	var out []string
	for u := range strings.SplitSeq(urls, ",") {
		u = strings.TrimSpace(u)
		if i := strings.LastIndexByte(u, '@'); i >= 0 {
			scheme, _, _ := strings.Cut(u, "://")
			if !slices.Contains(schemes, scheme) { // then it may be part of a credential
				scheme = "nats"
			}
			u = scheme + "://***@" + u[i+1:]
		}
		out = append(out, u)
	}
	return strings.Join(out, ",")
}
