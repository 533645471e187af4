package scripted

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// Rule says what to answer when. Rules are tried in order; the first one that
// matches and is not used up answers.
type Rule struct {
	// Name is for errors and [Call.Rule]. "": "rule <place, from 1>".
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
	// When must hold. The zero value always does.
	When When `json:"when,omitzero" yaml:"when,omitempty"`
	// Times is how many calls the rule answers before it is used up. Zero: any
	// number.
	Times int `json:"times,omitempty" yaml:"times,omitempty"`
	// Reply answers the rule's first call, Then its second, third, …; the last
	// of them answers all further calls.
	Reply Reply   `json:"reply" yaml:"reply"`
	Then  []Reply `json:"then,omitempty" yaml:"then,omitempty"`
}

// When is a condition on a request. All fields that are set must hold; texts
// are searched for, upper and lower case being the same.
type When struct {
	// System is in a system message.
	System string `json:"system,omitempty" yaml:"system,omitempty"`
	// Last is in the last message.
	Last string `json:"last,omitempty" yaml:"last,omitempty"`
	// Any is in any message.
	Any string `json:"any,omitempty" yaml:"any,omitempty"`
	// Tool is the name of a tool that is offered. "*": any. "!": none is.
	Tool string `json:"tool,omitempty" yaml:"tool,omitempty"`
	// Result is the name of the tool whose result is the last message. "*": any.
	// "!": the last message is no tool result.
	Result string `json:"result,omitempty" yaml:"result,omitempty"`
	// Format is whether a JSON schema is asked for: "*": it is. "!": it is not.
	Format string `json:"format,omitempty" yaml:"format,omitempty"`
	// Call is which call of the model it is, from 1. Zero: any.
	Call int `json:"call,omitempty" yaml:"call,omitempty"`
	// Match is for conditions that have no field. nil: holds.
	Match func(*provider.Request) bool `json:"-" yaml:"-"`
}

// Reply is what one call gets. What is set happens in this order: Delay, Panic,
// Hang, Fail, then the chunks of Thinking and Text, cut off after CutAfter,
// then ToolCalls and the end.
type Reply struct {
	// Text is the answer, a text/template over [View]. It streams in chunks of
	// Chunk runes; 0: word by word.
	Text  string `json:"text,omitempty" yaml:"text,omitempty"`
	Chunk int    `json:"chunk,omitempty" yaml:"chunk,omitempty"`
	// Thinking streams before the text, if the request asks for it.
	Thinking string `json:"thinking,omitempty" yaml:"thinking,omitempty"`
	// ToolCalls follow the text.
	ToolCalls []ToolCall `json:"tool_calls,omitempty" yaml:"tool_calls,omitempty"`
	// Stop is the reason given. "": end, or tools if there are ToolCalls.
	Stop messages.StopReason `json:"stop,omitempty" yaml:"stop,omitempty"`
	// Usage is reported. Zero: counted in words.
	Usage messages.Usage `json:"usage,omitzero" yaml:"usage,omitempty"`

	// Delay passes before the first chunk, Pace before each further one; in
	// JSON as text, "250ms".
	Delay time.Duration `json:"delay,omitempty" yaml:"delay,omitempty"`
	Pace  time.Duration `json:"pace,omitempty" yaml:"pace,omitempty"`

	// Fail is the call's error.
	Fail *Failure `json:"fail,omitempty" yaml:"fail,omitempty"`
	// CutAfter ends the stream after so many chunks of text with an error of
	// class transient, as a lost connection does. Zero: it is not cut.
	CutAfter int `json:"cut_after,omitempty" yaml:"cut_after,omitempty"`
	// Panic is what the call panics with.
	Panic string `json:"panic,omitempty" yaml:"panic,omitempty"`
	// Hang is for tests of timeouts and of stopping.
	Hang Hang `json:"hang,omitempty" yaml:"hang,omitempty"`
}

// Hang is how a call never ends.
type Hang string

const (
	// HangUntilCanceled: until the caller's context ends, as a well-made client.
	HangUntilCanceled Hang = "until_canceled"
	// HangForever: the context is ignored. [Model.Release] lets the call go on.
	HangForever Hang = "forever"
)

// ToolCall is a tool that a reply asks for. Its id is made up.
type ToolCall struct {
	Name      string         `json:"name" yaml:"name"`
	Arguments map[string]any `json:"arguments,omitempty" yaml:"arguments,omitempty"`
}

// Failure is a failure as data.
type Failure struct {
	// Class is any class. "": transient.
	Class messages.Class `json:"class,omitempty" yaml:"class,omitempty"`
	// Message says what happened. "": "scripted failure".
	Message string `json:"message,omitempty" yaml:"message,omitempty"`
	// Status is the HTTP status, for who looks at it.
	Status int `json:"status,omitempty" yaml:"status,omitempty"`
	// RetryAfter is the wait that the server asks for; in JSON as text, "2s".
	RetryAfter time.Duration `json:"retry_after,omitempty" yaml:"retry_after,omitempty"`
}

// Parse reads rules in YAML or JSON, a list of [Rule], and checks them. A field
// that no rule has is an error, as is more than 1 MB.
func Parse(data []byte) ([]Rule, error) {
	const most = 1 << 20
	if len(data) > most {
		return nil, messages.Errorf(messages.Invalid, "scripted", "rules: %d bytes are too many, the limit is %d", len(data), most)
	}
	rules, err := decode(data)
	if err != nil {
		return nil, messages.Errorf(messages.Invalid, "scripted", "rules: %w", err)
	}
	return rules, Check(rules)
}

// decode returns as an error what the decoder panics with: it does on some
// input that is not YAML (an unknown tag where a list should be).
func decode(data []byte) (rules []Rule, err error) {
	defer func() {
		if r := recover(); r != nil {
			rules, err = nil, fmt.Errorf("it is not YAML: %v", r)
		}
	}()
	err = yaml.NewDecoder(bytes.NewReader(data), yaml.DisallowUnknownField()).Decode(&rules)
	if err == io.EOF { // nothing there
		err = nil
	}
	return rules, err
}

// Check returns an error of class invalid that names the first rule and field
// which cannot work.
func Check(rules []Rule) error {
	_, err := compile(rules)
	return err
}

func (r *Rule) check() error {
	if r.Times < 0 {
		return fmt.Errorf("times: %d is not allowed: use 0 for any number, or more", r.Times)
	}
	if r.When.Call < 0 {
		return fmt.Errorf("when.call: %d is not allowed: use 0 for any, or more", r.When.Call)
	}
	if f := r.When.Format; f != "" && f != "*" && f != "!" {
		return fmt.Errorf(`when.format: %q is not allowed: use "*" or "!"`, f)
	}
	for i, p := range append([]Reply{r.Reply}, r.Then...) {
		if err := p.check(); err != nil {
			return fmt.Errorf("reply %d: %w", i+1, err)
		}
	}
	return nil
}

func (p *Reply) check() error {
	switch {
	case p.Chunk < 0:
		return fmt.Errorf("chunk: %d is not allowed: use 0 for words, or a number of runes", p.Chunk)
	case p.CutAfter < 0:
		return fmt.Errorf("cut_after: %d is not allowed: use 0 for no cut, or a number of chunks", p.CutAfter)
	case p.Delay < 0 || p.Pace < 0:
		return fmt.Errorf("delay, pace: %v, %v are not allowed: use durations of 0 or more", p.Delay, p.Pace)
	case p.Hang != "" && p.Hang != HangUntilCanceled && p.Hang != HangForever:
		return fmt.Errorf("hang: %q is not allowed: use until_canceled or forever", p.Hang)
	case p.Fail != nil && p.Fail.Class != "" && !p.Fail.Class.Valid():
		return fmt.Errorf("fail.class: %q is not allowed: use one of %v", p.Fail.Class, messages.Classes())
	case p.Fail != nil && p.Fail.RetryAfter < 0:
		return fmt.Errorf("fail.retry_after: %v is not allowed: use a duration of 0 or more", p.Fail.RetryAfter)
	}
	for _, c := range p.ToolCalls {
		if c.Name == "" {
			return fmt.Errorf("tool_calls: a call without a name is not allowed")
		}
	}
	return nil
}

// holds reports whether the condition is true of the call-th request.
func (w *When) holds(req *provider.Request, call int) bool {
	last := messages.Message{}
	if n := len(req.Messages); n > 0 {
		last = req.Messages[n-1]
	}
	in := func(want string, role messages.Role) bool {
		return want == "" || slices.ContainsFunc(req.Messages, func(m messages.Message) bool {
			return (role == "" || m.Role == role) && contains(m.Content, want)
		})
	}
	return (w.Call == 0 || w.Call == call) &&
		(w.Last == "" || contains(last.Content, w.Last)) &&
		in(w.System, messages.System) && in(w.Any, "") &&
		named(w.Tool, len(req.Tools) > 0, func(name string) bool {
			return slices.ContainsFunc(req.Tools, func(t messages.ToolSpec) bool { return t.Name == name })
		}) &&
		named(w.Result, last.Role == messages.ToolRole, func(name string) bool { return last.ToolName == name }) &&
		named(w.Format, req.Format != nil, func(string) bool { return false }) &&
		(w.Match == nil || w.Match(req))
}

func contains(text, want string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(want))
}

// named answers a condition that is "*", "!" or a name.
func named(want string, present bool, is func(string) bool) bool {
	switch want {
	case "":
		return true
	case "*":
		return present
	case "!":
		return !present
	}
	return present && is(want)
}

// UnmarshalJSON reads durations as text, beside JSON's own numbers of
// nanoseconds.
func (p *Reply) UnmarshalJSON(b []byte) error {
	type plain Reply
	v := struct {
		*plain
		Delay duration `json:"delay"`
		Pace  duration `json:"pace"`
	}{plain: (*plain)(p)}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	p.Delay, p.Pace = time.Duration(v.Delay), time.Duration(v.Pace)
	return nil
}

// UnmarshalJSON reads durations as text, beside JSON's own numbers of
// nanoseconds.
func (f *Failure) UnmarshalJSON(b []byte) error {
	type plain Failure
	v := struct {
		*plain
		RetryAfter duration `json:"retry_after"`
	}{plain: (*plain)(f)}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	f.RetryAfter = time.Duration(v.RetryAfter)
	return nil
}

type duration time.Duration

func (d *duration) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		return json.Unmarshal(b, (*int64)(d))
	}
	v, err := time.ParseDuration(text)
	*d = duration(v)
	return err
}
