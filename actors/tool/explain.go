package tool

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
)

// explain words a validator's verdict for a model: which argument, its value,
// and what is allowed. It judges nothing itself; what it cannot find (an anyOf,
// an if) keeps the validator's words.
func explain(root *jsonschema.Schema, value any, verdict error) error {
	x := &explainer{root: root}
	if err := x.find(root, "", value, 0); err != nil {
		return err
	}
	text := verdict.Error()
	if i := strings.LastIndex(text, ": validating "); i >= 0 {
		text = text[i+len(": validating "):]
	}
	return errors.New("arguments: " + cut(text, 400))
}

type explainer struct{ root *jsonschema.Schema }

// find returns the first fault in a fixed order, nil if it sees none.
func (x *explainer) find(s *jsonschema.Schema, at string, v any, depth int) error {
	if s = x.deref(s); s == nil || depth > 2*maxDepth {
		return nil
	}
	if !fits(s, v) {
		if at == "" {
			return fmt.Errorf("arguments: %s is not allowed: use %s", show(v), x.allowed(s))
		}
		return fmt.Errorf("argument %q: %s is not allowed: use %s", at, show(v), x.allowed(s))
	}
	for _, sub := range s.AllOf {
		if err := x.find(sub, at, v, depth+1); err != nil {
			return err
		}
	}
	switch v := v.(type) {
	case map[string]any:
		return x.object(s, at, v, depth)
	case []any:
		for i, item := range v {
			sub := s.Items
			if i < len(s.PrefixItems) {
				sub = s.PrefixItems[i]
			}
			if err := x.find(sub, fmt.Sprintf("%s[%d]", at, i), item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *explainer) object(s *jsonschema.Schema, at string, v map[string]any, depth int) error {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("argument %q is missing: use %s", join(at, name), x.allowed(s.Properties[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		sub, known := s.Properties[name]
		if known {
			if err := x.find(sub, join(at, name), v[name], depth+1); err != nil {
				return err
			}
			continue
		}
		if s.AdditionalProperties == nil || matchesAny(s.PatternProperties, name) {
			continue
		}
		if closed(s.AdditionalProperties) {
			return fmt.Errorf("argument %q is unknown: use %s", cut(join(at, name), 80), names(s))
		}
		if err := x.find(s.AdditionalProperties, join(at, name), v[name], depth+1); err != nil {
			return err
		}
	}
	return nil
}

func matchesAny(patterns map[string]*jsonschema.Schema, name string) bool {
	for p := range patterns {
		if ok, err := regexp.MatchString(p, name); ok || err != nil {
			return true
		}
	}
	return false
}

// deref follows $ref to where definitions usually are.
func (x *explainer) deref(s *jsonschema.Schema) *jsonschema.Schema {
	for range maxDepth {
		if s == nil || s.Ref == "" {
			return s
		}
		switch {
		case s.Ref == "#":
			s = x.root
		case strings.HasPrefix(s.Ref, "#/$defs/"):
			s = x.root.Defs[unescape(s.Ref[len("#/$defs/"):])]
		case strings.HasPrefix(s.Ref, "#/definitions/"):
			s = x.root.Definitions[unescape(s.Ref[len("#/definitions/"):])]
		default:
			return nil
		}
	}
	return nil
}

// fits checks v against what s says of the value itself, its parts aside.
func fits(s *jsonschema.Schema, v any) bool {
	if t := types(s); len(t) > 0 && !slices.ContainsFunc(t, func(t string) bool { return isA(t, v) }) {
		return false
	}
	if s.Enum != nil && !slices.ContainsFunc(s.Enum, func(e any) bool { return reflect.DeepEqual(e, v) }) {
		return false
	}
	if s.Const != nil && !reflect.DeepEqual(*s.Const, v) {
		return false
	}
	switch v := v.(type) {
	case float64:
		return !(s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum ||
			s.ExclusiveMinimum != nil && v <= *s.ExclusiveMinimum || s.ExclusiveMaximum != nil && v >= *s.ExclusiveMaximum ||
			s.MultipleOf != nil && v/(*s.MultipleOf) != math.Trunc(v/(*s.MultipleOf)))
	case string:
		n := utf8.RuneCountInString(v)
		if s.MinLength != nil && n < *s.MinLength || s.MaxLength != nil && n > *s.MaxLength {
			return false
		}
		if s.Pattern != "" {
			ok, err := regexp.MatchString(s.Pattern, v)
			return ok || err != nil
		}
	case []any:
		return !(s.MinItems != nil && len(v) < *s.MinItems || s.MaxItems != nil && len(v) > *s.MaxItems)
	}
	return true
}

func types(s *jsonschema.Schema) []string {
	if s.Type != "" {
		return []string{s.Type}
	}
	return s.Types
}

func isA(t string, v any) bool {
	switch v := v.(type) {
	case nil:
		return t == "null"
	case bool:
		return t == "boolean"
	case string:
		return t == "string"
	case float64:
		return t == "number" || t == "integer" && v == math.Trunc(v)
	case []any:
		return t == "array"
	case map[string]any:
		return t == "object"
	}
	return false
}

// allowed says in words what s takes.
func (x *explainer) allowed(s *jsonschema.Schema) string {
	switch s = x.deref(s); {
	case s == nil:
		return "any value"
	case s.Const != nil:
		return show(*s.Const)
	case s.Enum != nil:
		var all []string
		for _, e := range s.Enum {
			all = append(all, show(e))
		}
		return cut("one of "+strings.Join(all, ", "), 300)
	}
	var all []string
	for _, t := range types(s) {
		all = append(all, kind(t, s))
	}
	if len(all) == 0 {
		return "what its schema says"
	}
	return strings.Join(all, " or ")
}

func kind(t string, s *jsonschema.Schema) string {
	switch t {
	case "string":
		text := "a string" + between(i2f(s.MinLength), i2f(s.MaxLength), " characters")
		if s.Pattern != "" {
			text += " that matches " + cut(s.Pattern, 80)
		}
		return text
	case "integer", "number":
		text := map[string]string{"integer": "a whole number", "number": "a number"}[t] + between(s.Minimum, s.Maximum, "")
		if s.ExclusiveMinimum != nil {
			text += " above " + number(*s.ExclusiveMinimum)
		}
		if s.ExclusiveMaximum != nil {
			text += " below " + number(*s.ExclusiveMaximum)
		}
		if s.MultipleOf != nil {
			text += " that is a multiple of " + number(*s.MultipleOf)
		}
		return text
	case "boolean":
		return "true or false"
	case "array":
		return "a list" + between(i2f(s.MinItems), i2f(s.MaxItems), " items")
	case "object":
		if len(s.Properties) > 0 {
			return "an object with " + names(s)
		}
		return "an object"
	}
	return t
}

func between(low, high *float64, after string) string {
	switch {
	case low != nil && high != nil:
		return fmt.Sprintf(" from %s to %s%s", number(*low), number(*high), after)
	case low != nil:
		return fmt.Sprintf(" of at least %s%s", number(*low), after)
	case high != nil:
		return fmt.Sprintf(" of at most %s%s", number(*high), after)
	}
	return ""
}

func i2f(n *int) *float64 {
	if n == nil {
		return nil
	}
	f := float64(*n)
	return &f
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func names(s *jsonschema.Schema) string {
	if len(s.Properties) == 0 {
		return "no arguments"
	}
	return cut(strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", "), 300)
}

func closed(s *jsonschema.Schema) bool {
	return s.Not != nil && reflect.ValueOf(*s.Not).IsZero()
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// show prints a value as short JSON.
func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return cut(fmt.Sprint(v), 80)
	}
	return cut(string(b), 80)
}

// cut keeps the first n bytes of s, whole characters only.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
