// Package misfit finds what in a JSON value does not fit a JSON schema, and says
// in words what would: for a model that must repair its arguments, and for a
// person who must repair a file. It judges nothing itself: ask it after a
// validator has refused the value.
package misfit

import (
	"encoding/json"
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

// Kind is what is wrong.
type Kind int

const (
	// Wrong: the value at the path is not allowed.
	Wrong Kind = iota
	// Missing: the path names a property that is needed and absent.
	Missing
	// Unknown: the path names a property that the schema does not have.
	Unknown
)

// Fault is one misfit.
type Fault struct {
	Kind Kind
	// Path leads from the root to the fault: strings for properties, ints for
	// items.
	Path []any
	// Value is what is there, nil if it is missing.
	Value any
	// Allowed says in words what would be allowed.
	Allowed string
	// Known are the object's properties where one is unknown.
	Known []string
}

// maxDepth bounds how deep a value is followed.
const maxDepth = 128

// Find returns the first fault of a value that json.Unmarshal gave, in a fixed
// order. It finds none where a schema is cleverer than it is (not, if, patterns
// of properties): then keep the validator's words.
func Find(root *jsonschema.Schema, value any) (Fault, bool) {
	f := (&finder{root: root}).find(root, nil, value, 0)
	if f == nil {
		return Fault{}, false
	}
	return *f, true
}

// Where spells a path: lines[1].sku.
func Where(path []any) string {
	var b strings.Builder
	for _, p := range path {
		switch p := p.(type) {
		case int:
			fmt.Fprintf(&b, "[%d]", p)
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			fmt.Fprint(&b, p)
		}
	}
	return b.String()
}

type finder struct{ root *jsonschema.Schema }

func (x *finder) find(s *jsonschema.Schema, at []any, v any, depth int) *Fault {
	if s = x.deref(s); s == nil || depth > maxDepth {
		return nil
	}
	if !fits(s, v) {
		return &Fault{Kind: Wrong, Path: at, Value: v, Allowed: x.allowed(s)}
	}
	for _, sub := range s.AllOf {
		if f := x.find(sub, at, v, depth+1); f != nil {
			return f
		}
	}
	for _, any := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
		if f := x.either(any, at, v, depth); f != nil {
			return f
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
			if f := x.find(sub, below(at, i), item, depth+1); f != nil {
				return f
			}
		}
	}
	return nil
}

// either looks into the one alternative that is of the value's type.
func (x *finder) either(any []*jsonschema.Schema, at []any, v any, depth int) *Fault {
	var same []*jsonschema.Schema
	var words []string
	for _, s := range any {
		s = x.deref(s)
		if s == nil || len(types(s)) == 0 {
			return nil
		}
		words = append(words, x.allowed(s))
		if slices.ContainsFunc(types(s), func(t string) bool { return isA(t, v) }) {
			same = append(same, s)
		}
	}
	switch {
	case len(any) > 0 && len(same) == 0:
		return &Fault{Kind: Wrong, Path: at, Value: v, Allowed: strings.Join(words, ", or ")}
	case len(same) == 1:
		return x.find(same[0], at, v, depth+1)
	}
	return nil
}

func (x *finder) object(s *jsonschema.Schema, at []any, v map[string]any, depth int) *Fault {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		sub, known := s.Properties[name]
		if known {
			if f := x.find(sub, below(at, name), v[name], depth+1); f != nil {
				return f
			}
			continue
		}
		if s.AdditionalProperties == nil || matchesAny(s.PatternProperties, name) {
			continue
		}
		if closed(s.AdditionalProperties) {
			known := slices.Sorted(maps.Keys(s.Properties))
			return &Fault{Kind: Unknown, Path: below(at, name), Value: v[name], Allowed: names(s), Known: known}
		}
		if f := x.find(s.AdditionalProperties, below(at, name), v[name], depth+1); f != nil {
			return f
		}
	}
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return &Fault{Kind: Missing, Path: below(at, name), Allowed: x.allowed(s.Properties[name])}
		}
	}
	return nil
}

func below(at []any, p any) []any { return append(slices.Clip(at), p) }

func matchesAny(patterns map[string]*jsonschema.Schema, name string) bool {
	for p := range patterns {
		if ok, err := regexp.MatchString(p, name); ok || err != nil {
			return true
		}
	}
	return false
}

// deref follows $ref to where definitions usually are.
func (x *finder) deref(s *jsonschema.Schema) *jsonschema.Schema {
	for range maxDepth {
		if s == nil || s.Ref == "" {
			return s
		}
		switch {
		case s.Ref == "#":
			s = x.root
		case strings.HasPrefix(s.Ref, "#/$defs/"):
			s = x.root.Defs[s.Ref[len("#/$defs/"):]]
		case strings.HasPrefix(s.Ref, "#/definitions/"):
			s = x.root.Definitions[s.Ref[len("#/definitions/"):]]
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
func (x *finder) allowed(s *jsonschema.Schema) string {
	switch s = x.deref(s); {
	case s == nil:
		return "any value"
	case strings.HasPrefix(s.Title, "a "):
		return s.Title // such a title is a phrase, others are names
	case s.Const != nil:
		return Show(*s.Const)
	case s.Enum != nil:
		var all []string
		for _, e := range s.Enum {
			all = append(all, Show(e))
		}
		return Cut("one of "+strings.Join(all, ", "), 300)
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
			text += " that matches " + Cut(s.Pattern, 80)
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
	return Cut(strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", "), 300)
}

func closed(s *jsonschema.Schema) bool {
	return s.Not != nil && reflect.ValueOf(*s.Not).IsZero()
}

// Show prints a value as short JSON.
func Show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return Cut(fmt.Sprint(v), 80)
	}
	return Cut(string(b), 80)
}

// Cut keeps the first n bytes of s, whole characters only.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
