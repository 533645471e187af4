package tool

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/covey-run/covey/messages"
)

const (
	maxArguments = 1 << 20 // bytes
	maxDepth     = 64      // objects and lists within each other
)

// Validate returns an error of class invalid unless args fit the tool's
// parameters; it names the argument, its value and what is allowed, in words
// that a model can act upon. Empty args are an object with no properties.
// Arguments of more than 1 MiB, nested more than 64 deep, or with the same name
// twice in one object are refused.
func (t Tool) Validate(args json.RawMessage) error {
	fail := func(err error) error {
		return messages.Errorf(messages.Invalid, "", "tool %q: %w", t.Name, err)
	}
	schema, err := compiled(t.Parameters)
	if err != nil {
		return fail(fmt.Errorf("parameters: %w", err))
	}
	if n := len(args); n > maxArguments {
		return fail(fmt.Errorf("arguments of %d bytes are not allowed: use at most %d", n, maxArguments))
	}
	value, err := parse(orEmpty(args))
	if err != nil {
		return fail(fmt.Errorf("arguments: %w", err))
	}
	if err := schema.Validate(value); err != nil {
		return fail(explain(schema.Schema(), value, err))
	}
	return nil
}

func orEmpty(args json.RawMessage) json.RawMessage {
	if len(bytes.TrimSpace(args)) == 0 {
		return json.RawMessage("{}")
	}
	return args
}

// parse reads one JSON value, and refuses one that is nested too deep, or in
// which two readers could see different things.
func parse(text json.RawMessage) (any, error) {
	names, err := scan(text)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if n := count(v); n != names {
		return nil, fmt.Errorf("an object has the same name twice")
	}
	return v, nil
}

// scan bounds the depth and counts the names in all objects: outside of strings
// there is one colon for each.
func scan(text []byte) (names int, err error) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ':':
			names++
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return 0, fmt.Errorf("nested more than %d deep", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return names, nil
}

func count(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		n = len(v)
		for _, sub := range v {
			n += count(sub)
		}
	case []any:
		for _, sub := range v {
			n += count(sub)
		}
	}
	return n
}
