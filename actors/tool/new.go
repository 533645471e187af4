package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/google/jsonschema-go/jsonschema"
)

// Option changes a tool that [New] makes.
type Option func(*Tool)

// Pure is the option that declares that calling the tool has no effect.
func Pure(t *Tool) { t.Effect = messages.Pure }

// Idempotent is the option that declares that two calls with the same [Key]
// have the effect of one.
func Idempotent(t *Tool) { t.Effect = messages.Idempotent }

// Timeout bounds one call. Zero: 30 s.
func Timeout(d time.Duration) Option { return func(t *Tool) { t.Timeout = d } }

// Parameters replaces the schema that is read off In, for what a Go type cannot
// say (an enum, a range).
func Parameters(schema json.RawMessage) Option { return func(t *Tool) { t.Parameters = schema } }

// Verify finds out whether a call that a crash cut off took effect; see
// [Tool.Verify]. In must be the tool's own.
func Verify[In, Out any](fn func(ctx context.Context, in In, key string) (out Out, done bool, err error)) Option {
	return func(t *Tool) {
		t.Verify = func(ctx context.Context, args json.RawMessage, key string) (string, bool, error) {
			in, err := decode[In](args)
			if err != nil {
				return "", false, err
			}
			out, done, err := fn(ctx, in, key)
			if err != nil || !done {
				return "", false, err
			}
			text, err := encode(out)
			return text, err == nil, err
		}
	}
}

// New makes a tool of a typed Go function. The schema of its arguments is that
// of In, a struct or a map with string keys: a field's name is its JSON name, a
// field is required unless it is tagged omitempty or omitzero, and the tag
// `jsonschema:"…"` describes it to the model. Arguments that In does not have
// are refused. A string that fn returns is the tool's output as it is, anything
// else as JSON.
//
//	type city struct {
//		Name string `json:"name" jsonschema:"the city, in English"`
//	}
//	weather, err := tool.New("weather", "Tells the weather in a city.",
//		func(ctx context.Context, c city) (string, error) { … }, tool.Pure)
//
// It fails with class invalid when the tool cannot work; see [Tool.Check].
func New[In, Out any](name, description string, fn func(ctx context.Context, in In) (Out, error), opts ...Option) (Tool, error) {
	t := Tool{Name: name, Description: description}
	if fn != nil {
		t.Call = func(ctx context.Context, args json.RawMessage) (string, error) {
			in, err := decode[In](args)
			if err != nil {
				return "", err
			}
			out, err := fn(ctx, in)
			if err != nil {
				return "", err
			}
			return encode(out)
		}
	}
	schema, err := jsonschema.For[In](nil)
	if err != nil {
		return Tool{}, messages.Errorf(messages.Invalid, "", "tool %q: parameters: %w", name, err)
	}
	if t.Parameters, err = json.Marshal(plain(schema)); err != nil {
		return Tool{}, messages.Errorf(messages.Invalid, "", "tool %q: parameters: %w", name, err)
	}
	for _, o := range opts {
		o(&t)
	}
	return t, t.Check()
}

// Must returns t and panics if err is not nil. It is for tools that are made
// when a program starts: tool.Must(tool.New(…)).
func Must(t Tool, err error) Tool {
	if err != nil {
		panic(err)
	}
	return t
}

// plain drops the null that a Go slice may be: small models take the plainer
// schema better, and an absent list says the same.
func plain(s *jsonschema.Schema) *jsonschema.Schema {
	if s == nil {
		return nil
	}
	if slices.Equal(s.Types, []string{"null", "array"}) {
		s.Type, s.Types = "array", nil
	}
	for _, p := range s.Properties {
		plain(p)
	}
	plain(s.Items)
	plain(s.AdditionalProperties)
	return s
}

func decode[In any](args json.RawMessage) (in In, err error) {
	if err := json.Unmarshal(orEmpty(args), &in); err != nil {
		return in, messages.Errorf(messages.Invalid, "", "arguments: %w", err)
	}
	return in, nil
}

func encode(out any) (string, error) {
	if s, ok := out.(string); ok {
		return s, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		return "", messages.Errorf(messages.Tool, "", "output: %w", err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}
