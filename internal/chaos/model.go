package chaos

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
)

// model is a model server outside of the nodes, in the words of Ollama, that
// counts its calls. Its answers depend on the conversation alone: it calls each
// tool that it is offered once, one after the other, and then says what they
// said.
type model struct {
	url  string
	pace time.Duration // how long a reply takes: half to one and a half of it
	ln   net.Listener
	http *http.Server
	done chan struct{}

	mu    sync.Mutex
	calls map[call]*seen
	bad   []string // requests that no member of the kit's team makes
}

// seen is what the world saw of one model call.
type seen struct {
	calls int
	talks map[string]bool // digests of the conversations
}

// startModel listens on a loopback port.
func startModel(pace time.Duration) (*model, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, messages.Errorf(messages.Unavailable, "model server", "%w", err)
	}
	m := &model{url: "http://" + ln.Addr().String(), pace: pace, ln: ln, done: make(chan struct{}), calls: map[call]*seen{}}
	m.http = &http.Server{Handler: m, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(m.done)
		_ = m.http.Serve(ln) // it returns when it is closed
	}()
	return m, nil
}

// close ends the server, and every call that is under way.
func (m *model) close() {
	_ = m.http.Close()
	<-m.done
}

// counted returns what was seen so far, and what was no call of the kit's team.
func (m *model) counted() (map[call]*seen, []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := make(map[call]*seen, len(m.calls))
	for at, s := range m.calls {
		calls[at] = &seen{s.calls, maps.Clone(s.talks)}
	}
	return calls, append([]string(nil), m.bad...)
}

// talk is a request of Ollama's protocol, as far as it matters here.
type talk struct {
	Messages []struct {
		Role      string          `json:"role"`
		Content   string          `json:"content"`
		ToolCalls json.RawMessage `json:"tool_calls,omitempty"`
	} `json:"messages"`
	Tools []struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	} `json:"tools"`
}

var (
	orderIn  = regexp.MustCompile(`\border ([A-Za-z0-9_-]{1,64})`)
	memberIn = regexp.MustCompile(`^You are the ([A-Za-z0-9_/-]+)\b`)
)

// call says which call of which member of which run it is: each run's question
// names its order, which is the run's id, and each member's role is its path.
func (t talk) call() (call, error) {
	var c call
	for _, m := range t.Messages {
		switch m.Role {
		case "system":
			if found := memberIn.FindStringSubmatch(m.Content); found != nil {
				c.writer = found[1]
			}
		case "user":
			if found := orderIn.FindStringSubmatch(m.Content); found != nil && c.run == "" {
				c.run = found[1]
			}
		case "assistant":
			c.n++
		}
	}
	if c.run == "" || c.writer == "" {
		return c, fmt.Errorf("a conversation of %d messages without an order or a member", len(t.Messages))
	}
	return c, nil
}

// digest names the conversation: equal ones are equal steps.
func (t talk) digest() string {
	b, _ := json.Marshal(t.Messages) // of strings: it cannot fail
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// reply is what the model says: a text, or the name of a tool that it calls.
func (t talk) reply(c call) (text, tool string) {
	var results []string
	for _, m := range t.Messages {
		if m.Role == "tool" {
			results = append(results, m.Content)
		}
	}
	if len(results) < len(t.Tools) {
		return "", t.Tools[len(results)].Function.Name
	}
	return strings.TrimSpace(fmt.Sprintf("%s has done its part of %s. %s", c.writer, c.run, strings.Join(results, "; "))), ""
}

// thinks is how long the reply to a call takes, always the same.
func (m *model) thinks(c call) time.Duration {
	h := fnv.New32a()
	fmt.Fprint(h, c)
	return m.pace/2 + time.Duration(h.Sum32()%1000)*m.pace/1000
}

// ServeHTTP answers a call.
func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		return
	}
	if r.URL.Path != "/api/chat" {
		_, _ = io.WriteString(w, "{}") // whether the model is there
		return
	}
	var t talk
	err = json.Unmarshal(body, &t)
	var c call
	if err == nil {
		c, err = t.call()
	}
	m.count(c, t, err)
	if err != nil {
		http.Error(w, fmt.Sprintf(`{"error": %q}`, err.Error()), http.StatusBadRequest)
		return
	}
	timer := time.NewTimer(m.thinks(c))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		return
	}
	text, tool := t.reply(c)
	type object = map[string]any
	said := object{"role": "assistant", "content": text}
	if tool != "" {
		said["tool_calls"] = []object{{
			"id": "call_" + t.digest(), "function": object{"name": tool, "arguments": object{"order": c.run}},
		}}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	_ = json.NewEncoder(w).Encode(object{ // the caller may have left
		"model": "chaos", "created_at": "2026-01-01T00:00:00Z", "message": said,
		"done": true, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 5,
	})
}

func (m *model) count(c call, t talk, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.bad = append(m.bad, err.Error())
		return
	}
	s := m.calls[c]
	if s == nil {
		s = &seen{talks: map[string]bool{}}
		m.calls[c] = s
	}
	s.calls++
	s.talks[t.digest()] = true
}
