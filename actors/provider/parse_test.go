package provider_test

import (
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

var person = json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0}},"required":["name","age"],"additionalProperties":false}`)

// B2: parsing in order; the result names the strategy that worked.
func TestParse(t *testing.T) {
	const ada = `{"name":"Ada","age":36}`
	upper := provider.Strategy{Name: "after colon", Raw: true, Find: func(text string) iter.Seq[string] {
		return func(yield func(string) bool) {
			if _, after, ok := strings.Cut(text, ":"); ok {
				yield(strings.TrimSpace(after))
			}
		}
	}}
	for _, tt := range []struct {
		name, text          string
		w                   provider.Wanted
		want, strategy, bad string
	}{
		{name: "free text", text: " hello\n", want: "hello", strategy: "raw"},
		{name: "whole", text: "\n" + ada + "\n", w: provider.Wanted{Format: person}, want: ada, strategy: "json"},
		{name: "fenced", text: "Here:\n```json\n" + ada + "\n```\nDone {x}.", w: provider.Wanted{Format: person}, want: ada, strategy: "fenced"},
		{name: "fenced without a language", text: "```" + ada + "```", w: provider.Wanted{Format: person}, want: ada, strategy: "fenced"},
		{name: "the second fence", text: "```sh\nls\n```\n```json\n" + ada + "\n```", w: provider.Wanted{Format: person}, want: ada, strategy: "fenced"},
		{name: "a fence that is not closed", text: "```json\n" + ada, w: provider.Wanted{Format: person}, want: ada, strategy: "fenced"},
		{name: "in prose", text: "As [1] says, {see} " + ada + ", so there.", w: provider.Wanted{Format: person}, want: ada, strategy: "embedded"},
		{name: "the second object fits", text: `{"name":"x"} or ` + ada, w: provider.Wanted{Format: person}, want: ada, strategy: "embedded"},
		{name: "a bracket in a string", text: `so: {"name":"}{","age":1} ok`, w: provider.Wanted{Format: person}, want: `{"name":"}{","age":1}`, strategy: "embedded"},
		{name: "an array in prose", text: `so: ["a"] ok`, w: provider.Wanted{Format: json.RawMessage(`{"type":"array"}`)}, want: `["a"]`, strategy: "embedded"},
		{name: "required fields", text: `x {"a":1,"b":0}`, w: provider.Wanted{Required: []string{"a", "b"}}, want: `{"a":1,"b":0}`, strategy: "embedded"},
		{name: "raw is allowed", text: "I am Ada.", w: provider.Wanted{Format: person, AllowRaw: true}, want: "I am Ada.", strategy: "raw"},
		{name: "a strategy of one's own", text: "Answer: 42", w: provider.Wanted{Strategies: []provider.Strategy{upper}}, want: "42", strategy: "after colon"},

		{name: "empty", text: " \n\t", bad: "it is empty"},
		{name: "empty where raw is allowed", w: provider.Wanted{AllowRaw: true}, bad: "it is empty"},
		{name: "prose", text: "I am Ada.", w: provider.Wanted{Format: person}, bad: "it is not JSON"},
		{name: "not closed", text: `{"name":"Ada"`, w: provider.Wanted{Format: person}, bad: "it is not JSON"},
		{name: "a missing field", text: `sure: {"name":"Ada"}`, w: provider.Wanted{Format: person}, bad: `field "age" is missing`},
		{name: "a wrong type", text: `{"name":"Ada","age":"old"}`, w: provider.Wanted{Format: person}, bad: `field "age": "old" is not allowed`},
		{name: "an unknown field", text: `{"name":"Ada","age":1,"sex":"f"}`, w: provider.Wanted{Format: person}, bad: `field "sex" is unknown`},
		{name: "a required field missing", text: `{"a":1}`, w: provider.Wanted{Required: []string{"a", "b"}}, bad: `field "b" is missing`},
		{name: "a required field null", text: `{"a":null}`, w: provider.Wanted{Required: []string{"a"}}, bad: `field "a" is missing`},
		{name: "no object", text: `[1]`, w: provider.Wanted{Required: []string{"a"}}, bad: "not a JSON object"},
		{name: "many brackets", text: strings.Repeat("[", 1<<20), w: provider.Wanted{Format: person}, bad: "it is not JSON"},
		{name: "too long", text: strings.Repeat("x", 5<<20), bad: "too many"},
		{name: "a strategy that finds nothing", text: "x", w: provider.Wanted{Strategies: []provider.Strategy{upper}}, bad: "no strategy found anything"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, strategy, err := provider.Parse(tt.text, tt.w)
			if tt.bad != "" {
				if !errors.Is(err, messages.Malformed) || !strings.Contains(err.Error(), tt.bad) {
					t.Fatalf("%q by %s, error %v, want %q", got, strategy, err, tt.bad)
				}
				return
			}
			if err != nil || got != tt.want || strategy != tt.strategy {
				t.Errorf("%q by %s, error %v, want %q by %s", got, strategy, err, tt.want, tt.strategy)
			}
		})
	}
	for _, format := range []string{"{", `{"type":7}`, `{"$ref":"#"}`, `{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"}]}}}`, `{"x":"` + strings.Repeat("x", 300<<10) + `"}`} {
		if _, _, err := provider.Parse("{}", provider.Wanted{Format: json.RawMessage(format)}); !errors.Is(err, messages.Invalid) {
			t.Errorf("format %.20s: %v", format, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"{}", "```json\n{}\n```", "a {\"a\": [1]} b", "[[", "``````", "\xff{"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, _, err := provider.Parse(text, provider.Wanted{Required: []string{"a"}})
		if err == nil && !json.Valid([]byte(got)) {
			t.Errorf("%q became %q", text, got)
		}
	})
}
