// Package scripted is a model without a model: a provider.Model that answers by
// rules, the same way each time. It is for tests, for demonstrations, and for
// trying a team before there is a server.
//
//	m := scripted.Of(
//		scripted.Rule{When: scripted.When{Last: "capital of France"}, Reply: scripted.Reply{Text: "Paris."}},
//		scripted.Rule{Reply: scripted.Reply{Fail: &scripted.Failure{Class: messages.Throttled}},
//			Then: []scripted.Reply{{Text: "Now you said: {{.Last}}"}}},
//	)
//
// [Default] needs no rules and says of every answer that it is scripted.
package scripted

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"
	"unicode"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// Config makes a model.
type Config struct {
	// Model is the name that replies carry. "": "scripted".
	Model string
	// Rules are tried in order. A call that none matches fails with class
	// invalid.
	Rules []Rule
	// Clock measures Delay and Pace. nil: the real one.
	Clock clockwork.Clock
}

// Model answers by rules. Counts (Times, Then, Call) start at zero in each
// process and, of calls that run at the same time, depend on which comes first.
type Model struct {
	model    string
	clock    clockwork.Clock
	rules    []*rule
	fallback func(*provider.Request) (Reply, error) // nil: no rule is an error

	mu       sync.Mutex // guards the rest
	count    int
	calls    []Call // the newest maxCalls
	released chan struct{}
}

// maxCalls is how many calls a model remembers.
const maxCalls = 1024

// Call is a call that a model got.
type Call struct {
	// Request is a copy.
	Request provider.Request
	// Rule is the name of the rule that answered, "" if none did.
	Rule string
	// Time is when it came.
	Time time.Time
}

// rule is a Rule ready to be used.
type rule struct {
	Rule
	replies []reply
	used    int // guarded by Model.mu
}

type reply struct {
	Reply
	text *template.Template
}

// New makes a model. It fails with class invalid for a rule that cannot work.
func New(cfg Config) (*Model, error) {
	rules, err := compile(cfg.Rules)
	if err != nil {
		return nil, err
	}
	m := &Model{model: cfg.Model, clock: cfg.Clock, rules: rules, released: make(chan struct{})}
	if m.model == "" {
		m.model = "scripted"
	}
	if m.clock == nil {
		m.clock = clockwork.NewRealClock()
	}
	return m, nil
}

// Of makes a model of rules, for tests. It panics where [New] fails.
func Of(rules ...Rule) *Model {
	m, err := New(Config{Rules: rules})
	if err != nil {
		panic(err)
	}
	return m
}

// Factory makes models for a provider.Registry: each reference to a name gets a
// model of its own with these rules, or [Default] if there are none.
func Factory(rules ...Rule) provider.Factory {
	return func(model string) (provider.Model, error) {
		if len(rules) == 0 {
			return Default(), nil
		}
		return New(Config{Model: model, Rules: rules})
	}
}

func compile(rules []Rule) ([]*rule, error) {
	var out []*rule
	for i, r := range rules {
		if r.Name == "" {
			r.Name = fmt.Sprintf("rule %d", i+1)
		}
		bad := func(err error) error {
			return messages.Errorf(messages.Invalid, "scripted", "%s: %w", r.Name, err)
		}
		if err := r.check(); err != nil {
			return nil, bad(err)
		}
		c := &rule{Rule: r}
		for _, p := range append([]Reply{r.Reply}, r.Then...) {
			t, err := template.New(r.Name).Option("missingkey=error").Parse(p.Text)
			if err != nil {
				return nil, bad(fmt.Errorf("text: %w", err))
			}
			c.replies = append(c.replies, reply{p, t})
		}
		out = append(out, c)
	}
	return out, nil
}

// Calls returns the newest 1,024 calls, oldest first.
func (m *Model) Calls() []Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

// Count returns how many calls there were.
func (m *Model) Count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// Release lets every call go on that hangs forever, now and later.
func (m *Model) Release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.released:
	default:
		close(m.released)
	}
}

// Ping always succeeds.
func (m *Model) Ping(context.Context) error { return nil }

// View is what a reply's text template sees.
type View struct {
	// System, User and Last are the first system message, the last user message
	// and the last message.
	System, User, Last string
	// Tool is the name of the tool whose result is the last message, "" if it is
	// none.
	Tool string
	// Call counts the model's calls, RuleCall the rule's, both from 1.
	Call, RuleCall int
	// Messages is the whole conversation.
	Messages []messages.Message
}

// errAbandoned ends a call whose caller broke out of the loop.
var errAbandoned = errors.New("abandoned")

// Stream answers one call.
func (m *Model) Stream(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		start := m.clock.Now()
		p, view, err := m.choose(req, start)
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = m.play(ctx, req, p, view, start, yield)
		}
		if err == nil || err == errAbandoned {
			return
		}
		yield(provider.Chunk{}, messages.AsError(err, messages.Invalid, m.model))
	}
}

// choose finds the reply for a call and writes the call down.
func (m *Model) choose(req *provider.Request, now time.Time) (reply, View, error) {
	if len(req.Messages) == 0 {
		return reply{}, View{}, messages.Errorf(messages.Invalid, m.model, "request: messages: none is not allowed: use at least one")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	call := Call{Request: *req, Time: now}
	call.Request.Messages = slices.Clone(req.Messages)
	call.Request.Tools = slices.Clone(req.Tools)
	defer func() {
		if len(m.calls) == maxCalls {
			m.calls = slices.Delete(m.calls, 0, 1)
		}
		m.calls = append(m.calls, call)
	}()
	view := look(req)
	view.Call = m.count
	for _, r := range m.rules {
		if r.Times > 0 && r.used >= r.Times || !r.When.holds(req, m.count) {
			continue
		}
		p := r.replies[min(r.used, len(r.replies)-1)]
		r.used++
		call.Rule, view.RuleCall = r.Name, r.used
		return p, view, nil
	}
	if m.fallback == nil {
		return reply{}, view, m.noRule(view)
	}
	p, err := m.fallback(req)
	return reply{Reply: p}, view, err
}

// noRule is called with the lock held.
func (m *Model) noRule(v View) error {
	var names []string
	for _, r := range m.rules {
		name := r.Name
		if r.Times > 0 && r.used >= r.Times {
			name += " (used up)"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	return messages.Errorf(messages.Invalid, m.model, "no rule matches call %d, %q to a model that is told %q; the rules are: %s",
		v.Call, clip(v.Last, 200), clip(v.System, 200), strings.Join(names, ", "))
}

func look(req *provider.Request) View {
	v := View{Messages: req.Messages}
	for _, msg := range req.Messages {
		switch {
		case msg.Role == messages.System && v.System == "":
			v.System = msg.Content
		case msg.Role == messages.User:
			v.User = msg.Content
		}
	}
	if n := len(req.Messages); n > 0 {
		last := req.Messages[n-1]
		v.Last = last.Content
		if last.Role == messages.ToolRole {
			v.Tool = last.ToolName
		}
	}
	return v
}

// play does what the reply says. It returns the error to end the sequence with.
func (m *Model) play(ctx context.Context, req *provider.Request, p reply, v View, start time.Time, yield func(provider.Chunk, error) bool) error {
	if err := m.sleep(ctx, p.Delay); err != nil {
		return err
	}
	if p.Panic != "" {
		panic(p.Panic)
	}
	if p.Hang != "" {
		if err := m.hang(ctx, p.Hang); err != nil {
			return err
		}
	}
	if p.Fail != nil {
		return p.Fail.err(m.model)
	}
	text, err := p.write(v)
	if err != nil {
		return messages.Errorf(messages.Invalid, m.model, "%w", err)
	}
	calls, err := p.calls(v.Call)
	if err != nil {
		return messages.Errorf(messages.Invalid, m.model, "%w", err)
	}
	var chunks []provider.Chunk
	if p.Thinking != "" && req.Options.Think != nil && *req.Options.Think {
		chunks = append(chunks, provider.Chunk{Thinking: p.Thinking})
	}
	for i, piece := range pieces(text, p.Chunk) {
		if p.CutAfter == 0 || i < p.CutAfter {
			chunks = append(chunks, provider.Chunk{Text: piece})
		}
	}
	if len(calls) > 0 && p.CutAfter == 0 {
		chunks = append(chunks, provider.Chunk{ToolCalls: calls})
	}
	for i, c := range chunks {
		if i > 0 {
			if err := m.sleep(ctx, p.Pace); err != nil {
				return err
			}
		}
		c.Attempt = 1
		if !yield(c, nil) {
			return errAbandoned
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if p.CutAfter > 0 {
		return messages.Errorf(messages.Transient, m.model, "the stream broke off, as scripted, after %d chunks", p.CutAfter)
	}
	yield(provider.Chunk{Attempt: 1, Stop: p.stop(), Usage: p.usage(req, text, m.clock.Since(start)), Model: m.model}, nil)
	return nil
}

// write fills in the text's template.
func (p *reply) write(v View) (string, error) {
	if p.text == nil { // improvised, not a template
		return p.Text, nil
	}
	var b strings.Builder
	if err := p.text.Execute(&b, v); err != nil {
		return "", fmt.Errorf("text: %w", err)
	}
	return b.String(), nil
}

func (m *Model) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := m.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *Model) hang(ctx context.Context, h Hang) error {
	if h == HangForever {
		<-m.released
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *Failure) err(source string) error {
	e := &messages.Error{Class: f.Class, Source: source, Message: f.Message, Status: f.Status, RetryAfter: f.RetryAfter}
	if e.Class == "" {
		e.Class = messages.Transient
	}
	if e.Message == "" {
		e.Message = "scripted failure"
	}
	return e
}

// calls gives the tool calls ids that are unique within the model.
func (p *Reply) calls(call int) ([]messages.ToolCall, error) {
	var out []messages.ToolCall
	for i, c := range p.ToolCalls {
		args := json.RawMessage("{}")
		if len(c.Arguments) > 0 {
			var err error
			if args, err = json.Marshal(c.Arguments); err != nil {
				return nil, fmt.Errorf("the arguments of tool call %s are not JSON: %w", c.Name, err)
			}
		}
		out = append(out, messages.ToolCall{ID: fmt.Sprintf("call_%d_%d", call, i+1), Name: c.Name, Arguments: args})
	}
	return out, nil
}

func (p *Reply) stop() messages.StopReason {
	switch {
	case p.Stop != "":
		return p.Stop
	case len(p.ToolCalls) > 0:
		return messages.StopTools
	}
	return messages.StopEnd
}

func (p *Reply) usage(req *provider.Request, text string, took time.Duration) messages.Usage {
	u := p.Usage
	if u == (messages.Usage{}) {
		for _, msg := range req.Messages {
			u.InputTokens += len(strings.Fields(msg.Content))
		}
		u.OutputTokens = len(strings.Fields(text)) + len(p.ToolCalls)
		u.Duration = took
	}
	if u.Calls == 0 {
		u.Calls = 1
	}
	return u
}

// pieces cuts a text into chunks of n runes; 0: into words with the space
// before them.
func pieces(text string, n int) []string {
	var out []string
	size, start, space := 0, 0, true
	for i, r := range text {
		wordEnds := unicode.IsSpace(r) && !space
		if n == 0 && wordEnds || n > 0 && size == n {
			out = append(out, text[start:i])
			start, size = i, 0
		}
		size++
		space = unicode.IsSpace(r)
	}
	if start < len(text) {
		out = append(out, text[start:])
	}
	return out
}

// clip cuts a text to n runes for a person.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
