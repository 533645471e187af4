// Package faultserver plays a model server that fails on purpose: on loopback,
// in the words of Ollama, Anthropic or OpenAI. The first requests meet the faults
// that it was given, one each, the later ones are answered well: it plays the
// part described in package modeltest.
package faultserver

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-run/covey/internal/modeltest"
)

// Server is a running server. The test's end stops it, and lets go of every
// caller that it holds.
type Server struct {
	// URL is its address, as the dialect's client wants it.
	URL     string
	dialect Dialect
	faults  []Fault
	forever bool
	n       atomic.Int32
	held    chan struct{}
	gone    chan struct{} // closed when the test ends
}

// Start starts a server whose first requests meet faults.
func Start(t testing.TB, d Dialect, faults ...Fault) *Server {
	return start(t, d, false, faults...)
}

// Always starts a server all of whose requests meet f.
func Always(t testing.TB, d Dialect, f Fault) *Server { return start(t, d, true, f) }

func start(t testing.TB, d Dialect, forever bool, faults ...Fault) *Server {
	t.Helper()
	s := &Server{dialect: d, faults: faults, forever: forever, held: make(chan struct{}, 100), gone: make(chan struct{})}
	h := httptest.NewServer(s)
	s.URL = h.URL + d.Base
	t.Cleanup(func() {
		close(s.gone)
		h.CloseClientConnections()
		h.Close()
	})
	return s
}

// Requests is how many calls have come.
func (s *Server) Requests() int { return int(s.n.Load()) }

// Held tells of each caller that now gets nothing more until it leaves, at most
// 100 unheard.
func (s *Server) Held() <-chan struct{} { return s.held }

// ServeHTTP answers a call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != s.dialect.Base+s.dialect.path {
		http.NotFound(w, r)
		return
	}
	const most = 16 << 20
	// Read to the end: only then does the server notice that a caller leaves.
	body, err := io.ReadAll(io.LimitReader(r.Body, most))
	if err != nil {
		return
	}
	n := int(s.n.Add(1)) - 1
	var q question
	if err := json.Unmarshal(body, &q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	x := &exchange{s: s, w: w, r: r, d: s.dialect, a: answerTo(&q)}
	switch {
	case s.forever:
		s.faults[0].serve(x)
	case n < len(s.faults):
		s.faults[n].serve(x)
	default:
		x.answer()
	}
}

// question is what matters of a request, in any dialect.
type question struct {
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Tools          []json.RawMessage `json:"tools"`
	Format         json.RawMessage   `json:"format"`
	ResponseFormat json.RawMessage   `json:"response_format"`
	OutputConfig   json.RawMessage   `json:"output_config"`
}

// answer is what to say.
type answer struct {
	text    []string
	tool    bool // call the tool
	endless bool
}

func answerTo(q *question) answer {
	var role, text string
	if n := len(q.Messages); n > 0 {
		last := q.Messages[n-1]
		role, text = last.Role, textOf(last.Content)
		var blocks []struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(last.Content, &blocks) == nil && len(blocks) > 0 && blocks[0].Type == "tool_result" {
			role = "tool"
		}
	}
	switch {
	case text == modeltest.Endless:
		return answer{text: []string{" tick", " tock"}, endless: true}
	case role == "tool":
		return answer{text: []string{"It is sunny", " in Paris."}}
	case len(q.Tools) > 0:
		return answer{tool: true}
	case len(q.Format) > 0 || len(q.ResponseFormat) > 0 || len(q.OutputConfig) > 0:
		return answer{text: []string{`{"kind":`, ` "news",`, ` "score": 7}`}}
	}
	return answer{text: []string{"The capital", " of France", " is Paris."}}
}

func textOf(content json.RawMessage) string {
	var text string
	if json.Unmarshal(content, &text) == nil {
		return text
	}
	var blocks []struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(content, &blocks)
	for _, b := range blocks {
		text += b.Text
	}
	return text
}

// exchange is one call.
type exchange struct {
	s *Server
	w http.ResponseWriter
	r *http.Request
	d Dialect
	a answer
}

// send sends a part of the body now; false when the caller has left.
func (x *exchange) send(part string) bool {
	if _, err := io.WriteString(x.w, part); err != nil {
		return false
	}
	return http.NewResponseController(x.w).Flush() == nil
}

func (x *exchange) begin() {
	x.w.Header().Set("Content-Type", x.d.contentType)
	x.w.WriteHeader(http.StatusOK)
}

// answer answers well.
func (x *exchange) answer() {
	x.begin()
	if x.a.endless {
		x.send(x.d.start())
		x.drip(func(i int) string { return x.d.text(x.a.text[i%2]) })
		return
	}
	for _, part := range x.parts() {
		if !x.send(part) {
			return
		}
	}
}

// parts are the parts of a good answer: before the first text, each text, and
// the end.
func (x *exchange) parts() []string {
	parts := []string{x.d.start()}
	for _, t := range x.a.text {
		parts = append(parts, x.d.text(t))
	}
	if x.a.tool {
		return append(parts, x.d.call(x.s.n.Load()))
	}
	return append(parts, x.d.end())
}

// hold keeps the caller until it leaves.
func (x *exchange) hold() {
	x.tell()
	select {
	case <-x.r.Context().Done():
	case <-x.s.gone:
	}
}

func (x *exchange) tell() {
	select {
	case x.s.held <- struct{}{}:
	default:
	}
}

// drip sends a part each millisecond until the caller leaves, and tells of it
// after the third.
func (x *exchange) drip(part func(i int) string) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		if !x.send(part(i)) {
			return
		}
		if i == 2 {
			x.tell()
		}
		select {
		case <-tick.C:
		case <-x.r.Context().Done():
			return
		case <-x.s.gone:
			return
		}
	}
}
