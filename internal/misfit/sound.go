package misfit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Sound returns an error unless a schema, as json.Unmarshal gave it, can be
// given to a validator: one that refers to itself in a circle would have it run
// for ever. Its error says where it is and what is allowed.
func Sound(schema any) error {
	return (&refs{root: schema, state: map[string]int{}}).walk("#", schema, false)
}

// refs looks for references that a validator would follow for ever: a schema
// that refers to itself without going into a property or an item first.
type refs struct {
	root  any
	state map[string]int // by JSON pointer: 1 while it is on the path, 2 when it is done
}

var (
	schemaTypes = []string{"array", "boolean", "integer", "null", "number", "object", "string"}
	// plainData are the keywords whose values are not schemas.
	plainData = []string{"const", "default", "enum", "examples"}
)

var errLoop = errors.New("$ref: the schema refers to itself in a circle")

// walk visits every value within v. Lists and maps of schemas are visited as if
// they were schemas, which does no harm, and so is plain data, but for its types.
func (r *refs) walk(at string, v any, data bool) error {
	switch v := v.(type) {
	case map[string]any:
		if err := r.follow(at, v); err != nil {
			return err
		}
		if t, ok := v["type"].(string); ok && !data && !slices.Contains(schemaTypes, t) {
			return fmt.Errorf("%s: type: %q is not allowed: use one of %s", at, t, strings.Join(schemaTypes, ", "))
		}
		for k, sub := range v {
			if err := r.walk(at+"/"+escape(k), sub, data || slices.Contains(plainData, k)); err != nil {
				return err
			}
		}
	case []any:
		for i, sub := range v {
			if err := r.walk(fmt.Sprintf("%s/%d", at, i), sub, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow goes where a validator goes from the schema s with the same value in
// hand.
func (r *refs) follow(at string, v any) error {
	s, ok := v.(map[string]any)
	if !ok || r.state[at] == 2 {
		return nil
	}
	if r.state[at] == 1 {
		return fmt.Errorf("%w, at %s", errLoop, at)
	}
	r.state[at] = 1
	for _, k := range []string{"$dynamicRef", "$recursiveRef", "$id"} {
		if v, ok := s[k].(string); ok && (k != "$id" || at != "#") {
			return fmt.Errorf("%s: %q is not allowed: use $ref with a JSON pointer, as \"#/$defs/name\"", k, v)
		}
	}
	if to, ok := s["$ref"].(string); ok {
		target, ok := r.lookup(to)
		if !ok {
			return fmt.Errorf("$ref: %q leads nowhere: use a JSON pointer within the schema, as \"#/$defs/name\"", to)
		}
		if err := r.follow(to, target); err != nil {
			return err
		}
	}
	for _, k := range []string{"allOf", "anyOf", "oneOf"} {
		list, _ := s[k].([]any)
		for i, sub := range list {
			if err := r.follow(fmt.Sprintf("%s/%s/%d", at, k, i), sub); err != nil {
				return err
			}
		}
	}
	for _, k := range []string{"not", "if", "then", "else"} {
		if err := r.follow(at+"/"+k, s[k]); err != nil {
			return err
		}
	}
	for _, k := range []string{"dependentSchemas", "dependencies"} {
		m, _ := s[k].(map[string]any)
		for name, sub := range m {
			if err := r.follow(at+"/"+k+"/"+escape(name), sub); err != nil {
				return err
			}
		}
	}
	r.state[at] = 2
	return nil
}

func (r *refs) lookup(pointer string) (any, bool) {
	rest, ok := strings.CutPrefix(pointer, "#")
	if !ok || rest != "" && rest[0] != '/' {
		return nil, false
	}
	v := r.root
	for _, part := range strings.Split(rest, "/")[1:] {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[unescape(part)]; !ok {
			return nil, false
		}
	}
	return v, true
}

func escape(s string) string   { return strings.NewReplacer("~", "~0", "/", "~1").Replace(s) }
func unescape(s string) string { return strings.NewReplacer("~1", "/", "~0", "~").Replace(s) }
