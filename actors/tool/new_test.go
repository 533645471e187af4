package tool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

type order struct {
	SKU   string   `json:"sku" jsonschema:"what to order"`
	Count int      `json:"count,omitempty" jsonschema:"how many, 1 if not given"`
	Tags  []string `json:"tags,omitempty"`
}

func ExampleNew() {
	type in struct {
		A int `json:"a" jsonschema:"the first number"`
		B int `json:"b" jsonschema:"the second number"`
	}
	add := tool.Must(tool.New("add", "Adds two numbers.",
		func(_ context.Context, in in) (int, error) { return in.A + in.B, nil }, tool.Pure))

	fmt.Println(string(add.Parameters))
	fmt.Println(add.Validate(json.RawMessage(`{"a": 1, "b": "two"}`)))
	fmt.Println(add.Call(context.Background(), json.RawMessage(`{"a": 1, "b": 2}`)))
	// Output:
	// {"type":"object","properties":{"a":{"type":"integer","description":"the first number"},"b":{"type":"integer","description":"the second number"}},"required":["a","b"],"additionalProperties":false}
	// tool "add": argument "b": "two" is not allowed: use a whole number (invalid)
	// 3 <nil>
}

func TestNewReadsTheSchemaOffTheType(t *testing.T) {
	ordered := tool.Must(tool.New("order", "Orders.", func(_ context.Context, o order) (string, error) { return o.SKU, nil }))
	want := `{"type":"object","properties":{"sku":{"type":"string","description":"what to order"},` +
		`"count":{"type":"integer","description":"how many, 1 if not given"},` +
		`"tags":{"type":"array","items":{"type":"string"}}},"required":["sku"],"additionalProperties":false}`
	if got := string(ordered.Parameters); got != want {
		t.Errorf("schema\n got %s\nwant %s", got, want)
	}
	if ordered.Effect != messages.Unsafe {
		t.Errorf("effect %q", ordered.Effect)
	}
}

func TestNewGivesStringsAsTheyAreAndTheRestAsJSON(t *testing.T) {
	ctx := context.Background()
	text := tool.Must(tool.New("a", "", func(context.Context, struct{}) (string, error) { return "a \"b\" <c>", nil }))
	data := tool.Must(tool.New("b", "", func(context.Context, struct{}) (order, error) { return order{SKU: "<c>"}, nil }))
	if got, err := text.Call(ctx, nil); got != `a "b" <c>` || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := data.Call(ctx, nil); got != `{"sku":"<c>"}` || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	type loop struct{ Next *loop }
	cases := map[string]error{}
	_, cases["a string as arguments"] = tool.New("a", "", func(context.Context, string) (string, error) { return "", nil })
	_, cases["a channel"] = tool.New("a", "", func(context.Context, struct{ C chan int }) (string, error) { return "", nil })
	_, cases["a type within itself"] = tool.New("a", "", func(context.Context, loop) (string, error) { return "", nil })
	_, cases["no function"] = tool.New[struct{}, string]("a", "", nil)
	_, cases["no name"] = tool.New("", "", func(context.Context, struct{}) (string, error) { return "", nil })
	_, cases["timeout"] = tool.New("a", "", func(context.Context, struct{}) (string, error) { return "", nil }, tool.Timeout(-1))
	_, cases["parameters"] = tool.New("a", "", func(context.Context, struct{}) (string, error) { return "", nil }, tool.Parameters(json.RawMessage(`7`)))
	for name, err := range cases {
		if !errors.Is(err, messages.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOptions(t *testing.T) {
	fn := func(_ context.Context, o order) (int, error) { return o.Count, nil }
	verify := func(_ context.Context, o order, key string) (int, bool, error) {
		return o.Count + len(key), o.SKU != "", nil
	}
	got := tool.Must(tool.New("order", "Orders.", fn, tool.Idempotent, tool.Timeout(time.Minute), tool.Verify(verify)))
	if got.Effect != messages.Idempotent || got.Timeout != time.Minute {
		t.Errorf("got %+v", got)
	}
	out, done, err := got.Verify(context.Background(), json.RawMessage(`{"sku":"x","count":2}`), "key")
	if out != "5" || !done || err != nil {
		t.Errorf("verify: %q %v %v", out, done, err)
	}
	if _, done, _ := got.Verify(context.Background(), json.RawMessage(`{}`), "key"); done {
		t.Error("verify said done")
	}
}

func TestErrorsOfTheFunctionComeBackAsTheyAre(t *testing.T) {
	boom := errors.New("out of stock")
	got := tool.Must(tool.New("a", "", func(context.Context, struct{}) (string, error) { return "", boom }))
	if _, err := got.Call(context.Background(), json.RawMessage(`{}`)); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}
