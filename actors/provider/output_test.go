package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// talker is a model that gives answers in order and keeps the requests.
type talker struct {
	answers []provider.Chunk // the last one again and again
	asked   []*provider.Request
}

func says(texts ...string) *talker {
	m := &talker{}
	for _, t := range texts {
		m.answers = append(m.answers, provider.Chunk{Text: t})
	}
	return m
}

func (m *talker) Stream(_ context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		c := m.answers[min(len(m.asked), len(m.answers)-1)]
		m.asked = append(m.asked, req)
		stop := messages.StopEnd
		if c.Stop != "" {
			stop = c.Stop
		}
		c.Stop = ""
		if c.Broken != nil { // the call fails
			yield(provider.Chunk{}, c.Broken)
			return
		}
		half := c
		half.Text, c.Text = c.Text[:len(c.Text)/2], c.Text[len(c.Text)/2:]
		c.ToolCalls = nil
		if !yield(half, nil) || !yield(c, nil) {
			return
		}
		yield(provider.Chunk{Stop: stop, Model: "talker", Usage: messages.Usage{Calls: 1, InputTokens: 10, OutputTokens: 5, Duration: time.Second}}, nil)
	}
}

func (m *talker) lastAsked() string {
	ms := m.asked[len(m.asked)-1].Messages
	return ms[len(ms)-1].Content
}

var formed = &provider.Request{
	Messages: []messages.Message{
		{Role: messages.System, Content: "be brief"},
		{Role: messages.User, Content: "an old question"},
		{Role: messages.Assistant, Content: "an old answer"},
		{Role: messages.User, Content: "who?"},
	},
	Format: person, Key: "k", Session: "s",
}

const good = `{"name":"Ada","age":36}`

func TestOutputTakesAGoodAnswer(t *testing.T) {
	o := must(provider.NewOutput(provider.OutputConfig{}))
	for _, tt := range []struct{ said, strategy string }{{good, "json"}, {"Sure: " + good + "!", "embedded"}} {
		m := says(tt.said)
		r, err := provider.Call(t.Context(), o.Wrap(m), formed)
		if err != nil || r.Message.Content != good || r.Origin.Strategy != tt.strategy || r.Attempts != 1 || r.Usage.InputTokens != 10 || r.Model != "talker" {
			t.Errorf("reply %+v, error %v", r, err)
		}
		if m.asked[0] != formed {
			t.Error("the first request was changed")
		}
	}
	r, err := provider.Call(t.Context(), o.Wrap(says("free words")), request)
	if err != nil || r.Message.Content != "free words" || r.Origin.Strategy != "raw" || r.Origin.Confidence != 0 || r.Origin.Note != "" {
		t.Errorf("reply %+v, error %v", r, err)
	}
}

// A reply with tool calls is not the answer yet.
func TestOutputLetsToolCallsPass(t *testing.T) {
	o := must(provider.NewOutput(provider.OutputConfig{Validators: []provider.Validator{provider.Length(100, 0)}}))
	for _, req := range []*provider.Request{formed, request} {
		m := &talker{answers: []provider.Chunk{{Text: "let me see", ToolCalls: []messages.ToolCall{{ID: "1", Name: "look"}}, Stop: messages.StopTools}}}
		r, err := provider.Call(t.Context(), o.Wrap(m), req)
		if err != nil || len(r.Message.ToolCalls) != 1 || r.Message.Content != "let me see" || r.Stop != messages.StopTools || r.Origin != nil {
			t.Errorf("reply %+v, error %v", r, err)
		}
	}
}

// B11, A11, B10: repair, repair, a simpler prompt, then malformed, so that the
// next rung answers.
func TestOutputRepairs(t *testing.T) {
	var events sink
	o := must(provider.NewOutput(provider.OutputConfig{Name: "m", Observe: events.observe}))
	m := says("I am Ada.", `{"name":"Ada"}`, "no", "never")
	_, err := provider.Call(t.Context(), o.Wrap(m), formed)
	e := classIs(t, err, messages.Malformed)
	if len(m.asked) != 4 || len(e.Others) != 3 || e.Attempts != 4 || !strings.Contains(e.Error(), "no usable answer after 4 attempts: parse: it is not JSON") {
		t.Errorf("%d calls, error %v %+v", len(m.asked), e, e)
	}
	if tier, retry := provider.TierOf(err); tier != provider.TierParse || !retry {
		t.Errorf("tier %s, retry %v", tier, retry)
	}
	first, second, simple := m.asked[1].Messages, m.asked[2].Messages, m.asked[3].Messages
	if len(first) != 6 || first[4].Content != "I am Ada." || !strings.Contains(first[5].Content, "it is not JSON. Give the whole answer again, mended.") {
		t.Errorf("repair %+v", first)
	}
	if len(second) != 6 || second[4].Content != `{"name":"Ada"}` || !strings.Contains(second[5].Content, `field "age" is missing`) {
		t.Errorf("second repair %+v", second)
	}
	if len(simple) != 3 || simple[0].Content != "be brief" || simple[1].Content != "who?" || !strings.Contains(simple[2].Content, `"required":["name","age"]`) || *m.asked[3].Options.Temperature != 0 {
		t.Errorf("simpler %+v", simple)
	}
	var keys, told []string
	for _, r := range m.asked {
		keys = append(keys, r.Key)
	}
	for _, ev := range events.events() {
		told = append(told, fmt.Sprint(ev.Kind, " ", ev.Attempt, " ", ev.Text, " ", ev.Class))
		if ev.Name != "m" || ev.Session != "s" || ev.Error == nil {
			t.Errorf("event %+v", ev)
		}
	}
	if fmt.Sprint(keys) != "[k k#2 k#3 k#4]" || len(formed.Messages) != 4 || formed.Options.Temperature != nil {
		t.Errorf("keys %v, request %+v", keys, formed)
	}
	if fmt.Sprint(told) != "[output.repaired 1 repair malformed output.repaired 2 repair malformed output.repaired 3 simpler malformed]" {
		t.Errorf("events %v", told)
	}

	next, _ := play(text(good))
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(o.Wrap(says("no")), o.Wrap(next))}))
	r, err := provider.Call(t.Context(), l, formed)
	if err != nil || r.Message.Content != good || r.Origin.Rung != 1 || r.Origin.Strategy != "json" || r.Origin.Before[0].Class != messages.Malformed {
		t.Errorf("reply %+v, error %v", r, err)
	}
}

// A repaired answer costs what all attempts cost.
func TestOutputUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := must(provider.NewOutput(provider.OutputConfig{Wait: time.Second}))
		r, err := provider.Call(t.Context(), o.Wrap(says("no", "no", good)), formed)
		if err != nil || r.Usage.Calls != 3 || r.Usage.InputTokens != 30 || r.Usage.Duration != 3*time.Second || r.Attempts != 3 {
			t.Errorf("reply %+v, error %v", r, err)
		}
	})
}

// B1: 4 attempts around call and parse together, 1 s, 2 s, 4 s, at most 10 s.
func TestOutputWaits(t *testing.T) {
	down := provider.Chunk{Broken: messages.Errorf(messages.Transient, "", "reset")}
	for _, tt := range []struct {
		name     string
		answers  []provider.Chunk
		cfg      provider.OutputConfig
		deadline time.Duration
		class    messages.Class
		calls    int
		waits    time.Duration
	}{
		{name: "parse", answers: []provider.Chunk{{Text: "no"}}, class: messages.Malformed, calls: 4, waits: 7 * time.Second},
		{name: "mixed", answers: []provider.Chunk{{Text: "no"}, down, {Text: "no"}, {Text: good}}, calls: 4, waits: 7 * time.Second},
		{name: "calls", answers: []provider.Chunk{down}, class: messages.Transient, calls: 4, waits: 7 * time.Second},
		{name: "capped", answers: []provider.Chunk{down}, cfg: provider.OutputConfig{Attempts: 100}, class: messages.Transient, calls: 4, waits: 7 * time.Second},
		{name: "capped below", answers: []provider.Chunk{down}, cfg: provider.OutputConfig{MaxTotal: 3 * time.Second}, class: messages.Transient, calls: 3, waits: 3 * time.Second},
		{name: "asked to wait", answers: []provider.Chunk{{Broken: &messages.Error{Class: messages.Throttled, RetryAfter: 5 * time.Second}}, {Text: good}}, calls: 2, waits: 5 * time.Second},
		{name: "asked to wait too long", answers: []provider.Chunk{{Broken: &messages.Error{Class: messages.Throttled, RetryAfter: time.Minute}}}, class: messages.Throttled, calls: 1},
		{name: "deadline", answers: []provider.Chunk{{Text: "no"}}, deadline: 2 * time.Second, class: messages.Malformed, calls: 2, waits: time.Second},
		{name: "not to be repeated", answers: []provider.Chunk{{Broken: messages.Errorf(messages.Quota, "", "spent")}}, class: messages.Quota, calls: 1},
		{name: "calls have another owner", answers: []provider.Chunk{{Text: "no"}, down}, cfg: provider.OutputConfig{Repairs: -1, RetryCalls: false}, class: messages.Transient, calls: 2, waits: time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := tt.cfg
				cfg.Wait = time.Second
				cfg.RetryCalls = cfg.Repairs == 0
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				m := &talker{answers: tt.answers}
				start := time.Now()
				_, err := provider.Call(ctx, must(provider.NewOutput(cfg)).Wrap(m), formed)
				if messages.ClassOf(err) != tt.class || len(m.asked) != tt.calls || time.Since(start) != tt.waits {
					t.Errorf("after %v and %d calls: %v", time.Since(start), len(m.asked), err)
				}
				if tt.calls > 1 && err != nil {
					if e := classIs(t, err, tt.class); len(e.Others) != tt.calls-1 || e.Attempts != tt.calls {
						t.Errorf("error %+v", e)
					}
				}
			})
		})
	}
}

// A wait ends when the caller goes.
func TestOutputCanceledInWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := must(provider.NewOutput(provider.OutputConfig{Wait: 5 * time.Second}))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := provider.Call(ctx, o.Wrap(says("no")), formed)
		e := classIs(t, err, messages.Canceled)
		if time.Since(start) != time.Second || len(e.Others) != 1 {
			t.Errorf("after %v: %+v", time.Since(start), e)
		}
	})
}

// Free text streams as it comes; a refused text is announced as broken.
func TestOutputStreamsFreeText(t *testing.T) {
	o := must(provider.NewOutput(provider.OutputConfig{Validators: []provider.Validator{provider.Length(5, 0)}}))
	var got []string
	r, err := provider.Collect(o.Wrap(says("ab", "abcdef")).Stream(t.Context(), request), func(c provider.Chunk) {
		got = append(got, fmt.Sprintf("%d %q %s", max(c.Attempt, 1), c.Text, messages.ClassOf(c.Broken)))
	})
	if want := `[1 "a"  1 "b"  2 "" malformed 2 "abc"  2 "def"  2 "" ]`; fmt.Sprint(got) != want || err != nil || r.Message.Content != "abcdef" || r.Origin.Confidence != 1 {
		t.Errorf("chunks %v, want %v; reply %+v, error %v", got, want, r, err)
	}
	for leave := range 6 { // the caller may break off at any chunk
		n := 0
		for range o.Wrap(says("ab", "abcdef")).Stream(t.Context(), request) {
			if n++; n > leave {
				break
			}
		}
		if n != leave+1 {
			t.Errorf("%d chunks after leaving at %d", n, leave)
		}
	}
	// JSON is held back until it was judged.
	n := 0
	_, err = provider.Collect(must(provider.NewOutput(provider.OutputConfig{})).Wrap(says("no", "x"+good)).Stream(t.Context(), formed), func(c provider.Chunk) { n++ })
	if n != 1 || err != nil {
		t.Errorf("%d chunks, error %v", n, err)
	}
}

func sure(c float64, note string) provider.Validator {
	return func(context.Context, *provider.Request, string) (float64, string, error) { return c, note, nil }
}

// B11: the mean decides: accept above 0.7, retry below 0.5, between accept with a
// note.
func TestOutputConfidence(t *testing.T) {
	for _, tt := range []struct {
		vs    []provider.Validator
		taken bool
		mean  float64
		note  string
	}{
		{[]provider.Validator{sure(1, ""), sure(0.5, "weak")}, true, 0.75, ""},
		{[]provider.Validator{sure(0.71, "")}, true, 0.71, ""},
		{[]provider.Validator{sure(0.7, "thin")}, true, 0.7, "confidence 0.70: thin"},
		{[]provider.Validator{sure(0.8, "a"), sure(0.2, "b")}, true, 0.5, "confidence 0.50: a; b"},
		{[]provider.Validator{sure(0.49, "poor")}, false, 0, "confidence 0.49, at least 0.50 is needed: poor"},
		{[]provider.Validator{sure(0, "")}, false, 0, "the validators are not content"},
		{[]provider.Validator{sure(1, ""), func(context.Context, *provider.Request, string) (float64, string, error) {
			return 1, "", errors.New("it lies")
		}}, false, 0, "validation: it lies"},
	} {
		o := must(provider.NewOutput(provider.OutputConfig{Attempts: 2, Validators: tt.vs[:1]})).With(tt.vs[1:]...)
		m := says("an answer")
		r, err := provider.Call(t.Context(), o.Wrap(m), request)
		if tt.taken {
			if err != nil || math.Abs(r.Origin.Confidence-tt.mean) > 1e-9 || r.Origin.Note != tt.note {
				t.Errorf("reply %+v, error %v, want %v %q", r, err, tt.mean, tt.note)
			}
			continue
		}
		tier, retry := provider.TierOf(err)
		if !errors.Is(err, messages.Malformed) || !strings.Contains(err.Error(), tt.note) || tier != provider.TierValidation || !retry || len(m.asked) != 2 {
			t.Errorf("error %v, tier %s, retry %v, %d calls; want %q", err, tier, retry, len(m.asked), tt.note)
		}
	}
}

// A validator that cannot judge fails the call, and nothing is asked again.
func TestOutputJudgeIsDown(t *testing.T) {
	for class, v := range map[messages.Class]provider.Validator{
		messages.Unavailable: func(context.Context, *provider.Request, string) (float64, string, error) {
			return 0, "", messages.Errorf(messages.Unavailable, "judge", "it is down")
		},
		messages.Crashed: sure(math.NaN(), ""),
	} {
		m := says("an answer")
		_, err := provider.Call(t.Context(), must(provider.NewOutput(provider.OutputConfig{Validators: []provider.Validator{v}})).Wrap(m), request)
		classIs(t, err, class)
		if tier, retry := provider.TierOf(err); tier != provider.TierValidation || retry || len(m.asked) != 1 {
			t.Errorf("tier %s, retry %v, %d calls", tier, retry, len(m.asked))
		}
	}
}

// What asking again cannot mend is not asked again.
func TestOutputNotRepaired(t *testing.T) {
	withheld := &talker{answers: []provider.Chunk{{Stop: messages.StopFiltered}}}
	_, err := provider.Call(t.Context(), must(provider.NewOutput(provider.OutputConfig{})).Wrap(withheld), request)
	if tier, retry := provider.TierOf(err); !errors.Is(err, messages.Malformed) || tier != provider.TierParse || retry || len(withheld.asked) != 1 || !strings.Contains(err.Error(), "withheld") {
		t.Errorf("error %v, %d calls", err, len(withheld.asked))
	}
	bad := *formed
	bad.Format = json.RawMessage(`{"type":1}`)
	m := says(good)
	_, err = provider.Call(t.Context(), must(provider.NewOutput(provider.OutputConfig{})).Wrap(m), &bad)
	if !errors.Is(err, messages.Invalid) || len(m.asked) != 1 {
		t.Errorf("error %v, %d calls", err, len(m.asked))
	}
	cut := &talker{answers: []provider.Chunk{{Text: `{"name":`, Stop: messages.StopLength}, {Text: good}}}
	if _, err = provider.Call(t.Context(), must(provider.NewOutput(provider.OutputConfig{})).Wrap(cut), formed); err != nil || !strings.Contains(cut.lastAsked(), "cut off at the limit of tokens") {
		t.Errorf("error %v, asked %q", err, cut.lastAsked())
	}
	if tier, retry := provider.TierOf(messages.Errorf(messages.Throttled, "", "x")); tier != provider.TierCall || !retry {
		t.Errorf("tier %s, retry %v", tier, retry)
	}
}

// What the request does not say of the format, the simpler prompt does.
func TestOutputSimplerPrompt(t *testing.T) {
	o := must(provider.NewOutput(provider.OutputConfig{Repairs: -1, Format: person, Required: []string{"name"}}))
	m := says("no", good)
	r, err := provider.Call(t.Context(), o.Wrap(m), request)
	if err != nil || r.Message.Content != good || len(m.asked[1].Format) != 0 {
		t.Errorf("reply %+v, error %v", r, err)
	}
	for _, want := range []string{"one JSON value", "the fields name.", `"required":["name","age"]`, "it is not JSON.)"} {
		if !strings.Contains(m.lastAsked(), want) {
			t.Errorf("%q is not in %q", want, m.lastAsked())
		}
	}
	own := must(provider.NewOutput(provider.OutputConfig{
		Repair:   func(*provider.Request, *provider.Reply, error) *provider.Request { return request },
		Simplify: func(*provider.Request, error) *provider.Request { return formed },
		Repairs:  1,
	}))
	m = says(" ")
	if _, err := provider.Call(t.Context(), own.Wrap(m), request); !errors.Is(err, messages.Malformed) || m.asked[1] != request || m.asked[2] != formed {
		t.Errorf("error %v, asked %+v", err, m.asked)
	}
}

func TestValidators(t *testing.T) {
	for _, tt := range []struct {
		v          provider.Validator
		text       string
		confidence float64
		bad        string
	}{
		{provider.Length(2, 4), "äöü", 1, ""},
		{provider.Length(2, 4), "a", 0, "1 characters are too few, at least 2"},
		{provider.Length(2, 4), "abcde", 0, "at most 4"},
		{provider.Length(0, 0), strings.Repeat("x", 1000), 1, ""},
		{provider.Matches(regexp.MustCompile(`\d{4}-\d\d`), "a month like 2024-01"), "on 1999-12", 1, ""},
		{provider.Matches(regexp.MustCompile(`\d{4}-\d\d`), "a month like 2024-01"), "today", 0, "it has to contain a month like 2024-01"},
		{provider.Willing(), "I'm sorry, I can't help with that.", 0.3, ""},
		{provider.Willing(), "As an AI language model, ...", 0.3, ""},
		{provider.Willing(), "Paris.", 1, ""},
	} {
		c, _, err := tt.v(t.Context(), request, tt.text)
		if c != tt.confidence || (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
			t.Errorf("%q: %v, %v; want %v, %q", tt.text, c, err, tt.confidence, tt.bad)
		}
	}
}

func TestOutputChecks(t *testing.T) {
	for _, tt := range []struct {
		cfg provider.OutputConfig
		bad string
	}{
		{provider.OutputConfig{}, ""},
		{provider.OutputConfig{Accept: 0.3}, ""},
		{provider.OutputConfig{Accept: 1.1}, "accept: 1.1"},
		{provider.OutputConfig{Reject: -1}, "reject: -1"},
		{provider.OutputConfig{Reject: math.NaN()}, "reject: NaN"},
		{provider.OutputConfig{Reject: 0.8}, "reject: 0.8"},
		{provider.OutputConfig{Attempts: -1}, "attempts: -1"},
		{provider.OutputConfig{Wait: -1}, "wait: -1ns"},
		{provider.OutputConfig{MaxTotal: -1}, "max_total: -1ns"},
		{provider.OutputConfig{Strategies: []provider.Strategy{{}}}, "strategies[0]"},
		{provider.OutputConfig{Validators: []provider.Validator{nil}}, "validators: nil"},
		{provider.OutputConfig{Format: json.RawMessage(`[]`)}, "format: not a JSON schema"},
	} {
		_, err := provider.NewOutput(tt.cfg)
		if tt.bad == "" && err != nil || tt.bad != "" && (!errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), tt.bad)) {
			t.Errorf("error %v, want %q", err, tt.bad)
		}
	}
}
