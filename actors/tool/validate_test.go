package tool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

const chargeSchema = `{
	"type": "object",
	"properties": {
		"amount": {"type": "integer", "minimum": 1, "maximum": 500},
		"currency": {"enum": ["EUR", "USD"]},
		"lines": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/line"}},
		"note": {"type": ["string", "null"], "pattern": "^[a-z]+$"},
		"either": {"anyOf": [{"type": "string"}, {"type": "boolean"}]}
	},
	"required": ["amount"],
	"additionalProperties": false,
	"$defs": {"line": {"type": "object", "properties": {"sku": {"type": "string", "minLength": 3}}, "required": ["sku"]}}
}`

func charge(schema string) tool.Tool {
	return tool.Tool{
		Name: "charge", Parameters: json.RawMessage(schema),
		Call: func(context.Context, json.RawMessage) (string, error) { return "", nil },
	}
}

func TestValidateNamesTheFieldTheValueAndWhatIsAllowed(t *testing.T) {
	for _, c := range []struct{ name, args, want string }{
		{"fits", `{"amount": 5, "currency": "EUR", "lines": [{"sku": "abc"}], "note": null, "either": true}`, ""},
		{"a whole float", `{"amount": 5.0}`, ""},
		{"missing", `{}`, `argument "amount" is missing: use a whole number from 1 to 500`},
		{"nothing at all", ``, `argument "amount" is missing`},
		{"wrong type", `{"amount": "five"}`, `argument "amount": "five" is not allowed: use a whole number from 1 to 500`},
		{"fraction", `{"amount": 1.5}`, `argument "amount": 1.5 is not allowed`},
		{"out of range", `{"amount": 501}`, `argument "amount": 501 is not allowed: use a whole number from 1 to 500`},
		{"enum", `{"amount": 1, "currency": "GBP"}`, `argument "currency": "GBP" is not allowed: use one of "EUR", "USD"`},
		{"too many", `{"amount": 1, "lines": [{"sku":"abc"},{"sku":"abc"},{"sku":"abc"}]}`, `use a list of at most 2 items`},
		{"in a list", `{"amount": 1, "lines": [{"sku":"abc"},{"sku":"x"}]}`, `argument "lines[1].sku": "x" is not allowed: use a string of at least 3 characters`},
		{"missing in a list", `{"amount": 1, "lines": [{}]}`, `argument "lines[0].sku" is missing`},
		{"pattern", `{"amount": 1, "note": "A"}`, `use a string that matches ^[a-z]+$ or null`},
		{"unknown", `{"amount": 1, "amuont": 2}`, `argument "amuont" is unknown: use amount, currency, either, lines, note`},
		{"case matters", `{"amount": 1, "Amount": 2}`, `argument "Amount" is unknown`},
		{"any of", `{"amount": 1, "either": 7}`, `either`},
		{"not an object", `[1]`, `arguments: [1] is not allowed: use an object with amount`},
		{"null", `null`, `arguments: null is not allowed`},
		{"twice", `{"amount": 1, "amount": 900}`, `the same name twice`},
		{"twice by escape", `{"amount": 1, "\u0061mount": 900}`, `the same name twice`},
		{"cut off", `{"amount": 1`, `not JSON`},
		{"two values", `{"amount": 1} {}`, `not JSON`},
		{"huge number", `{"amount": 1e999999999}`, `not JSON`},
		{"deep", `{"amount": ` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, `nested more than 64 deep`},
		{"huge", `{"amount": "` + strings.Repeat("x", 1<<20) + `"}`, `use at most 1048576`},
		{"a long value is cut", `{"amount": "` + strings.Repeat("é", 500_000) + `"}`, `…`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := charge(chargeSchema).Validate(json.RawMessage(c.args))
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v\nwant class invalid and %q", err, c.want)
			}
			if len(err.Error()) > 1000 {
				t.Fatalf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestNoParametersTakesNoArguments(t *testing.T) {
	for args, ok := range map[string]bool{"": true, "{}": true, " \n": true, `{"a":1}`: false, "[]": false} {
		if err := charge("").Validate(json.RawMessage(args)); (err == nil) != ok {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestCheck(t *testing.T) {
	good := charge(chargeSchema)
	with := func(f func(*tool.Tool)) tool.Tool { t := good; f(&t); return t }
	for _, c := range []struct {
		name string
		tool tool.Tool
		want string
	}{
		{"good", good, ""},
		{"recursive through a property", with(func(t *tool.Tool) {
			t.Parameters = json.RawMessage(`{"type":"object","properties":{"left":{"$ref":"#"}}}`)
		}), ""},
		{"no name", with(func(t *tool.Tool) { t.Name = "" }), "name"},
		{"bad name", with(func(t *tool.Tool) { t.Name = "a b" }), `"a b" is not a name`},
		{"effect", with(func(t *tool.Tool) { t.Effect = "harmless" }), "effect: harmless is not allowed: use pure"},
		{"timeout", with(func(t *tool.Tool) { t.Timeout = -time.Second }), "timeout: -1s is not allowed: use a positive"},
		{"call", with(func(t *tool.Tool) { t.Call = nil }), "call: nil"},
		{"schema is no JSON", charge(`{`), "not JSON"},
		{"schema is a list", charge(`[]`), "use a JSON schema of type object"},
		{"schema of a string", charge(`{"type":"string"}`), `type: "string" is not allowed: use "object"`},
		{"unknown type", charge(`{"type":"object","properties":{"a":{"type":"text"}}}`), "text"},
		{"bad pattern", charge(`{"type":"object","properties":{"a":{"pattern":"("}}}`), "regexp"},
		{"circle", charge(`{"type":"object","$ref":"#"}`), "in a circle"},
		{"long circle", charge(`{"type":"object","properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}}`), "in a circle"},
		{"circle in a property named default", charge(`{"type":"object","properties":{"default":{"$ref":"#/properties/default"}}}`), "in a circle"},
		{"remote", charge(`{"type":"object","$ref":"https://example.com/s.json"}`), "leads nowhere"},
		{"dangling", charge(`{"type":"object","$ref":"#/$defs/x"}`), "leads nowhere"},
		{"dynamic", charge(`{"type":"object","properties":{"a":{"$dynamicRef":"#x"}}}`), "$dynamicRef"},
		{"huge schema", charge(`{"type":"object","title":"` + strings.Repeat("x", 300_000) + `"}`), "use at most 262144"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.tool.Check()
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want class invalid and %q", err, c.want)
			}
		})
	}
}

func TestValidateManyAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 300 {
				schema := fmt.Sprintf(`{"type":"object","properties":{"n":{"const":%d}}}`, n+i*100)
				if err := charge(schema).Validate(json.RawMessage(fmt.Sprintf(`{"n":%d}`, n+i*100))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzValidateArguments(f *testing.F) {
	for _, s := range []string{`{"amount":5}`, `{"amount":"x","lines":[{"sku":1}]}`, `{"a":{"b":[null,true]}}`, `{`, ``, `{"amount":1,"amount":2}`, `{"\ud800":1}`} {
		f.Add(s)
	}
	t := charge(chargeSchema)
	f.Fuzz(func(tt *testing.T, args string) {
		err := t.Validate(json.RawMessage(args))
		if err != nil {
			if !errors.Is(err, messages.Invalid) {
				tt.Fatalf("class of %v", err)
			}
			return
		}
		var v struct{ Amount *float64 }
		if err := json.Unmarshal([]byte(args), &v); err != nil || v.Amount == nil || *v.Amount < 1 || *v.Amount > 500 {
			tt.Fatalf("%q was let through: %v", args, err)
		}
	})
}

func FuzzCheckSchema(f *testing.F) {
	for _, s := range []string{chargeSchema, `{"type":"object","$ref":"#"}`, `{"type":"object","allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"$ref":"#/allOf/0"}}}`, `{"type":"object","if":true,"then":{"$ref":"#/if"}}`} {
		f.Add(s, `{"amount":1}`)
	}
	f.Fuzz(func(_ *testing.T, schema, args string) {
		if t := charge(schema); t.Check() == nil {
			_ = t.Validate(json.RawMessage(args)) // must come back
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	t, args := charge(chargeSchema), json.RawMessage(`{"amount": 5, "currency": "EUR", "lines": [{"sku": "abc"}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := t.Validate(args); err != nil {
			b.Fatal(err)
		}
	}
}
