package misfit_test

import (
	"encoding/json"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/covey-run/covey/internal/misfit"
)

func TestFind(t *testing.T) {
	const schema = `{
		"type": "object", "additionalProperties": false, "required": ["n"],
		"properties": {
			"n": {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 5},
			"either": {"anyOf": [{"enum": ["all"], "type": "string"}, {"$ref": "#/$defs/some"}]},
			"span": {"type": "string", "title": "a span, as 3-5", "pattern": "-"},
			"named": {"type": "string", "title": "Amount", "maxLength": 2},
			"pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "null"}},
			"free": {"type": "object", "additionalProperties": {"type": "boolean"}},
			"odd": {"not": {"type": "string"}}
		},
		"$defs": {"some": {"type": "object", "properties": {"of": {"const": 1}}}}
	}`
	var s jsonschema.Schema
	if err := json.Unmarshal([]byte(schema), &s); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		value, where, allowed string
		kind                  misfit.Kind
	}{
		{`{"n": 7}`, "n", "a whole number above 0 that is a multiple of 5", misfit.Wrong},
		{`{}`, "n", "a whole number above 0 that is a multiple of 5", misfit.Missing},
		{`{"m": 1}`, "m", "either, free, n, named, odd, pair, span", misfit.Unknown},
		{`{"either": 4}`, "either", `one of "all", or an object with of`, misfit.Wrong},
		{`{"either": "none"}`, "either", `one of "all"`, misfit.Wrong},
		{`{"either": {"of": 2}}`, "either.of", "1", misfit.Wrong},
		{`{"span": "3"}`, "span", "a span, as 3-5", misfit.Wrong},
		{`{"named": "abc"}`, "named", "a string of at most 2 characters", misfit.Wrong},
		{`{"pair": ["a", "b"]}`, "pair[1]", "null", misfit.Wrong},
		{`{"free": {"x": {"y": 1}}}`, "free.x", "true or false", misfit.Wrong},
		{`[]`, "", "an object with either, free, n, named, odd, pair, span", misfit.Wrong},
	} {
		var v any
		if err := json.Unmarshal([]byte(c.value), &v); err != nil {
			t.Fatal(err)
		}
		f, ok := misfit.Find(&s, v)
		if got := misfit.Where(f.Path); !ok || got != c.where || f.Allowed != c.allowed || f.Kind != c.kind {
			t.Errorf("%s: %v %q %q %v", c.value, ok, got, f.Allowed, f.Kind)
		}
	}
	if f, ok := misfit.Find(&s, map[string]any{"n": 5.0, "odd": "text"}); ok {
		t.Errorf("it found %+v where only a validator can judge", f)
	}
}

func TestCutKeepsWholeCharacters(t *testing.T) {
	if got := misfit.Cut("aéé", 2); got != "a…" {
		t.Errorf("got %q", got)
	}
}
