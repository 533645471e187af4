// Package modeltest is what every provider.Model must do. A client's tests set
// up a server, or a script, that plays the part described at [Run], and run it.
package modeltest

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// The part that the model has to play.
const (
	// Question, without tools, is answered with Answer.
	Question = "What is the capital of France?"
	Answer   = "The capital of France is Paris."
	// ToolName is called with Arguments whenever it is offered and the last
	// message is no tool result.
	ToolName  = "get_weather"
	Arguments = `{"city":"Paris"}`
	// Observed is the answer to a tool result.
	Observed = "It is sunny in Paris."
	// Endless is answered with text without an end.
	Endless = "loop"
	// Structured, with [Schema] as the format, is answered with JSON that
	// satisfies it.
	Structured = "random"
)

// Tool is the tool of that name, with one needed string, city.
var Tool = messages.ToolSpec{
	Name: ToolName, Description: "Tells the weather in a city.",
	Parameters: json.RawMessage(`{"type":"object","required":["city"],"properties":{"city":{"type":"string","description":"the city"}}}`),
}

// Schema is the format asked for: an object with a kind and a score.
var Schema = json.RawMessage(`{"type":"object","required":["kind","score"],"properties":{
	"kind":{"enum":["news","sport"]},"score":{"type":"integer","minimum":0,"maximum":9}}}`)

// patience bounds each call, so that a model that hangs fails its test.
const patience = 60 * time.Second

// Ask makes a request of one user message.
func Ask(text string) *provider.Request {
	return &provider.Request{Messages: []messages.Message{
		{Role: messages.System, Content: "You are a geographer."},
		{Role: messages.User, Content: text},
	}}
}

// Run runs the suite, but for the tests named in without, which a server cannot
// pass: say why where you name one. newModel is called once for each test and
// may return the same model again. It must be fresh in that no rule of it is
// used up.
func Run(t *testing.T, newModel func(t *testing.T) provider.Model, without ...string) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, provider.Model)
	}{
		{"Text", text}, {"Twice", twice}, {"RequestUnchanged", unchanged}, {"Tools", tools},
		{"Format", format}, {"Options", options}, {"NoMessages", noMessages}, {"Abandoned", abandoned},
		{"Canceled", canceled}, {"CanceledBefore", canceledBefore}, {"Deadline", deadline}, {"Concurrent", concurrent},
	} {
		if !slices.Contains(without, tt.name) {
			t.Run(tt.name, func(t *testing.T) { tt.run(t, newModel(t)) })
		}
	}
}

// chunks ranges over a whole call and checks what holds for every sequence.
func chunks(t *testing.T, m provider.Model, ctx context.Context, req *provider.Request) ([]provider.Chunk, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var all []provider.Chunk
	var failure error
	for c, err := range m.Stream(ctx, req) {
		if failure != nil {
			t.Fatalf("the sequence went on after its error %v: %+v, %v", failure, c, err)
		}
		if n := len(all); n > 0 && all[n-1].Stop != "" {
			t.Fatalf("the sequence went on after its last chunk %+v: %+v, %v", all[n-1], c, err)
		}
		if err != nil {
			failure = err
			if messages.ClassOf(err) == "" {
				t.Errorf("an error without a class: %v", err)
			}
			continue
		}
		if c.Attempt > 1 || c.Broken != nil {
			t.Errorf("a client does not retry: %+v", c)
		}
		all = append(all, c)
	}
	if n := len(all); failure == nil && (n == 0 || all[n-1].Stop == "") {
		t.Fatalf("the sequence ended without an error and without a stop reason, after %d chunks", n)
	}
	return all, failure
}

func good(t *testing.T, m provider.Model, req *provider.Request) (*provider.Reply, []provider.Chunk) {
	t.Helper()
	cs, err := chunks(t, m, t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	r, err := provider.Collect(func(yield func(provider.Chunk, error) bool) {
		for _, c := range cs {
			if !yield(c, nil) {
				return
			}
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, cs
}

func text(t *testing.T, m provider.Model) {
	r, cs := good(t, m, Ask(Question))
	if got := strings.TrimSpace(r.Message.Content); got != Answer {
		t.Errorf("answer %q, want %q", got, Answer)
	}
	if len(cs) < 3 {
		t.Errorf("%d chunks: the answer did not stream", len(cs))
	}
	if r.Stop != messages.StopEnd || r.Model == "" || r.Message.Role != messages.Assistant || len(r.Message.ToolCalls) != 0 {
		t.Errorf("reply %+v", r)
	}
	u := r.Usage
	if u.Calls != 1 || u.InputTokens <= 0 || u.OutputTokens <= 0 || u.Duration < 0 {
		t.Errorf("usage %+v", u)
	}
	for _, c := range cs[:len(cs)-1] {
		if c.Usage != (messages.Usage{}) {
			t.Errorf("usage before the last chunk: %+v", c)
		}
	}
}

// twice ranges over one sequence two times: two calls.
func twice(t *testing.T, m provider.Model) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seq := m.Stream(ctx, Ask(Question))
	for range 2 {
		r, err := provider.Collect(seq, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(r.Message.Content); got != Answer {
			t.Errorf("answer %q", got)
		}
	}
}

func unchanged(t *testing.T, m provider.Model) {
	make := func() *provider.Request {
		zero, seed := 0.0, 7
		return &provider.Request{
			Messages: Ask(Question).Messages, Tools: []messages.ToolSpec{Tool},
			Options: provider.Options{Temperature: &zero, Seed: &seed, MaxTokens: 100, Stop: []string{"###"}}, Key: "k",
		}
	}
	req := make()
	good(t, m, req)
	if !reflect.DeepEqual(req, make()) {
		t.Errorf("the model changed its request: %+v", req)
	}
}

func tools(t *testing.T, m provider.Model) {
	req := Ask("What is the weather in Paris?")
	req.Tools = []messages.ToolSpec{Tool}
	ids := map[string]bool{}
	for round := range 2 {
		r, _ := good(t, m, req)
		if r.Stop != messages.StopTools || len(r.Message.ToolCalls) != 1 {
			t.Fatalf("round %d: stop %q, calls %+v, text %q", round, r.Stop, r.Message.ToolCalls, r.Message.Content)
		}
		call := r.Message.ToolCalls[0]
		if call.ID == "" || ids[call.ID] {
			t.Errorf("round %d: id %q is empty or was given before", round, call.ID)
		}
		ids[call.ID] = true
		var got, want any
		if err := json.Unmarshal(call.Arguments, &got); err != nil {
			t.Fatalf("arguments %s: %v", call.Arguments, err)
		}
		_ = json.Unmarshal([]byte(Arguments), &want)
		if call.Name != ToolName || !reflect.DeepEqual(got, want) {
			t.Errorf("call %s(%s)", call.Name, call.Arguments)
		}
		req.Messages = append(slices.Clone(req.Messages), r.Message,
			messages.Message{Role: messages.ToolRole, ToolCallID: call.ID, ToolName: call.Name, Content: "sunny"})
		after, _ := good(t, m, req)
		if got := strings.TrimSpace(after.Message.Content); got != Observed || after.Stop != messages.StopEnd {
			t.Errorf("after the result: %q, stop %q", got, after.Stop)
		}
		req.Messages = append(req.Messages, after.Message, messages.Message{Role: messages.User, Content: "And now?"})
	}
}

func format(t *testing.T, m provider.Model) {
	req := Ask(Structured)
	req.Format = Schema
	req.Options.MaxTokens = 400
	r, _ := good(t, m, req)
	var v struct {
		Kind  string
		Score *int
	}
	if err := json.Unmarshal([]byte(r.Message.Content), &v); err != nil {
		t.Fatalf("%v in %q", err, r.Message.Content)
	}
	if v.Kind != "news" && v.Kind != "sport" || v.Score == nil || *v.Score < 0 || *v.Score > 9 {
		t.Errorf("the reply does not satisfy the schema: %s", r.Message.Content)
	}
}

func options(t *testing.T, m provider.Model) {
	half, seed, off := 0.5, 1, false
	req := Ask(Question)
	req.Options = provider.Options{Temperature: &half, TopP: &half, Seed: &seed, MaxTokens: 50, ContextTokens: 1024, Stop: []string{"###"}, Think: &off}
	if r, _ := good(t, m, req); r.Message.Thinking != "" {
		t.Errorf("it thinks, unasked: %q", r.Message.Thinking)
	}
}

func noMessages(t *testing.T, m provider.Model) {
	if _, err := chunks(t, m, t.Context(), &provider.Request{}); messages.ClassOf(err) != messages.Invalid {
		t.Errorf("error %v, want class invalid", err)
	}
}

func abandoned(t *testing.T, m provider.Model) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for c, err := range m.Stream(ctx, Ask(Endless)) {
		if err != nil || c.Text == "" && c.Thinking == "" {
			t.Fatalf("first chunk %+v, error %v", c, err)
		}
		break
	}
	good(t, m, Ask(Question)) // and the model still works
}

func canceled(t *testing.T, m provider.Model) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n := 0
	var failure error
	for _, err := range m.Stream(ctx, Ask(Endless)) {
		if failure = err; err != nil {
			break
		}
		if n++; n == 3 {
			cancel()
		}
	}
	if messages.ClassOf(failure) != messages.Canceled {
		t.Errorf("error %v after %d chunks, want class canceled", failure, n)
	}
	good(t, m, Ask(Question))
}

func canceledBefore(t *testing.T, m provider.Model) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if cs, err := chunks(t, m, ctx, Ask(Question)); messages.ClassOf(err) != messages.Canceled || len(cs) != 0 {
		t.Errorf("error %v after %d chunks, want class canceled", err, len(cs))
	}
}

func deadline(t *testing.T, m provider.Model) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := chunks(t, m, ctx, Ask(Endless)); messages.ClassOf(err) != messages.Timeout {
		t.Errorf("error %v, want class timeout", err)
	}
}

func concurrent(t *testing.T, m provider.Model) {
	var wg sync.WaitGroup
	req := Ask(Question)
	for range 4 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if r, err := provider.Call(ctx, m, req); err != nil || strings.TrimSpace(r.Message.Content) != Answer {
				t.Errorf("reply %+v, error %v", r, err)
			}
		})
	}
	wg.Wait()
}
