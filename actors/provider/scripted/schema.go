package scripted

import (
	"encoding/json"
	"math"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/covey-run/covey/messages"
)

// example returns the JSON of a value that satisfies a schema, with text where
// a string is free. A schema that it cannot satisfy (a pattern, say) is an error
// of class invalid.
func example(format json.RawMessage, text string) (string, error) {
	var s jsonschema.Schema
	if err := json.Unmarshal(format, &s); err != nil {
		return "", messages.Errorf(messages.Invalid, "scripted", "format: it is not a JSON schema: %w", err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return "", messages.Errorf(messages.Invalid, "scripted", "format: %w", err)
	}
	v := sample{root: &s, text: text}.of(&s, 0)
	b, err := json.Marshal(v)
	if err != nil {
		return "", messages.Errorf(messages.Invalid, "scripted", "format: %w", err)
	}
	var plain any
	if err := json.Unmarshal(b, &plain); err != nil {
		return "", messages.Errorf(messages.Invalid, "scripted", "format: %w", err)
	}
	if err := resolved.Validate(plain); err != nil {
		return "", messages.Errorf(messages.Invalid, "scripted", "format: the scripted model cannot satisfy this schema: %w", err)
	}
	return string(b), nil
}

type sample struct {
	root *jsonschema.Schema
	text string
}

// of makes a value; beyond 32 levels it gives up with null.
func (x sample) of(s *jsonschema.Schema, depth int) any {
	if s == nil || depth > 32 {
		return nil
	}
	switch {
	case s.Ref != "":
		return x.of(x.resolve(s.Ref), depth+1)
	case s.Const != nil:
		return *s.Const
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.Default) > 0:
		return s.Default
	case len(s.AnyOf) > 0:
		return x.of(s.AnyOf[0], depth+1)
	case len(s.OneOf) > 0:
		return x.of(s.OneOf[0], depth+1)
	case len(s.AllOf) > 0:
		return x.of(s.AllOf[0], depth+1)
	}
	switch kind(s) {
	case "object":
		o := map[string]any{}
		for name, p := range s.Properties {
			if depth < 4 { // optional ones too, unless the schema recurses
				o[name] = x.of(p, depth+1)
			}
		}
		for _, name := range s.Required {
			o[name] = x.of(s.Properties[name], depth+1)
		}
		return o
	case "array":
		a := []any{}
		for i := range max(1, value(s.MinItems, 0)) {
			if s.MaxItems != nil && i >= *s.MaxItems || i >= 1000 {
				break
			}
			a = append(a, x.of(s.Items, depth+1))
		}
		return a
	case "integer", "number":
		return number(s)
	case "boolean":
		return true
	case "null":
		return nil
	}
	return x.str(s)
}

func (x sample) resolve(ref string) *jsonschema.Schema {
	if ref == "#" {
		return x.root
	}
	if name, ok := strings.CutPrefix(ref, "#/$defs/"); ok {
		return x.root.Defs[name]
	}
	if name, ok := strings.CutPrefix(ref, "#/definitions/"); ok {
		return x.root.Definitions[name]
	}
	return nil
}

func (x sample) str(s *jsonschema.Schema) string {
	switch s.Format {
	case "date":
		return "2000-01-01"
	case "date-time":
		return "2000-01-01T00:00:00Z"
	case "uri":
		return "https://example.org/scripted"
	case "email":
		return "scripted@example.org"
	}
	r := []rune(x.text)
	if s.MaxLength != nil && len(r) > *s.MaxLength {
		r = r[:max(*s.MaxLength, 0)]
	}
	if n := min(value(s.MinLength, 0), 1<<16); len(r) < n {
		r = append(r, []rune(strings.Repeat(".", n-len(r)))...)
	}
	return string(r)
}

func kind(s *jsonschema.Schema) string {
	switch {
	case s.Type != "":
		return s.Type
	case len(s.Types) > 0:
		return s.Types[0]
	case len(s.Properties) > 0 || len(s.Required) > 0:
		return "object"
	case s.Items != nil:
		return "array"
	case s.Minimum != nil || s.Maximum != nil || s.MultipleOf != nil:
		return "number"
	}
	return "string"
}

// number returns the first of some likely numbers that the schema allows.
func number(s *jsonschema.Schema) any {
	step := 1.0
	if s.MultipleOf != nil && *s.MultipleOf > 0 {
		step = *s.MultipleOf
	}
	lo, hi := math.Inf(-1), math.Inf(1)
	likely := []float64{step, 0}
	for _, p := range []*float64{s.Minimum, s.ExclusiveMinimum} {
		if p != nil {
			lo = max(lo, *p)
			likely = append(likely, math.Ceil(*p/step)*step, (math.Floor(*p/step)+1)*step, *p)
		}
	}
	for _, p := range []*float64{s.Maximum, s.ExclusiveMaximum} {
		if p != nil {
			hi = min(hi, *p)
			likely = append(likely, math.Floor(*p/step)*step, (math.Ceil(*p/step)-1)*step, *p)
		}
	}
	likely = append(likely, (lo+hi)/2)
	for _, v := range likely {
		if v < lo || v > hi || math.IsInf(v, 0) || math.IsNaN(v) ||
			s.ExclusiveMinimum != nil && v <= *s.ExclusiveMinimum || s.ExclusiveMaximum != nil && v >= *s.ExclusiveMaximum {
			continue
		}
		return v
	}
	return step // and the validation says what is wrong with it
}

func value(p *int, otherwise int) int {
	if p == nil {
		return otherwise
	}
	return *p
}
