package metrics

import (
	"context"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/covey-run/covey/messages"
)

// minToken is the shortest token, in bytes.
const minToken = 16

// CheckAddress refuses an address that is none, and one beyond this machine
// without a token of at least 16 bytes.
func CheckAddress(addr, token string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return messages.Errorf(messages.Invalid, "", "metrics: address: %q is not allowed: use host:port, as 127.0.0.1:9464", addr)
	}
	ip := net.ParseIP(host)
	if host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	if len(token) < minToken {
		return messages.Errorf(messages.Invalid, "", "metrics: address: %q is reachable from other machines, which is not allowed without a token of at least %d bytes: use 127.0.0.1:PORT, or set a token", addr, minToken)
	}
	return nil
}

// Server serves /metrics and /health.
type Server struct {
	http *http.Server
	addr net.Addr
	done chan struct{}
}

// Serve listens. With a token, a request must carry it: "Authorization: Bearer
// TOKEN".
func (m *Metrics) Serve(addr, token string) (*Server, error) {
	if err := CheckAddress(addr, token); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, messages.Errorf(messages.Unavailable, "metrics", "%w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.Handle("GET /health", m.HealthHandler())
	s := &Server{addr: l.Addr(), done: make(chan struct{}), http: &http.Server{
		Handler:           guard(token, mux),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
	}}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // it returns when it is closed
	}()
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.addr.String() }

// Close ends it: at once for who waits for ctx no longer.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

func guard(token string, h http.Handler) http.Handler {
	if token == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a token is needed", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}
