package teamfile_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
	"github.com/covey-run/covey/teamfile"
)

func load(t *testing.T, path string) teamfile.File {
	t.Helper()
	f, err := teamfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func team(t *testing.T, f teamfile.File, o teamfile.Options) actors.Team {
	t.Helper()
	made, err := f.Team(o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestTeamHasEverythingThatTheFileSays(t *testing.T) {
	made := team(t, load(t, "testdata/full.yaml"), teamfile.Options{})
	if made.Name != "shop" || made.Plan != (plan.Pipeline{}) {
		t.Errorf("got %q, %#v", made.Name, made.Plan)
	}
	wantPolicy := supervisor.Policy{
		Strategy: supervisor.RestForOne, Intensity: 3, Within: 30 * time.Second, Spent: supervisor.DoQuarantine,
		Backoff: supervisor.Backoff{Initial: -1, Factor: 1.5, Max: 10 * time.Second, Jitter: -1},
		OnClass: map[messages.Class]supervisor.Directive{messages.Poison: supervisor.DoEscalate, messages.Crashed: supervisor.DoRestart},
	}
	if !reflect.DeepEqual(made.Policy, wantPolicy) {
		t.Errorf("policy\n got %+v\nwant %+v", made.Policy, wantPolicy)
	}

	clerk := made.Members[0].(actors.Agent)
	if clerk.Model != "scripted/clerk" || clerk.Instructions != "Be short.\nSay the price.\n" || clerk.MaxSteps != 4 ||
		clerk.Timeout != 90*time.Second || clerk.MaxPark != -1 || clerk.Restart != supervisor.Transient {
		t.Errorf("clerk %+v", clerk)
	}
	zero, topP, seed, think := 0.0, 0.9, 7, false
	wantOptions := provider.Options{Temperature: &zero, TopP: &topP, Seed: &seed, MaxTokens: 200, ContextTokens: 4096, Stop: []string{"END"}, Think: &think}
	if !reflect.DeepEqual(clerk.Options, wantOptions) {
		t.Errorf("options %+v", clerk.Options)
	}
	if len(clerk.Tools) != 3 || clerk.Tools[0].Name != "calculator" {
		t.Fatalf("tools %+v", clerk.Tools)
	}
	charge := clerk.Tools[1]
	if charge.Effect != messages.Idempotent || charge.Timeout != 10*time.Second || charge.Verify == nil {
		t.Errorf("charge %+v", charge)
	}
	if err := charge.Validate(json.RawMessage(`{"amount": 0}`)); err == nil {
		t.Error("the schema of charge is lost")
	}
	if stock := clerk.Tools[2]; stock.Effect != messages.Unsafe || stock.Verify != nil {
		t.Errorf("stock %+v", stock)
	}

	council := made.Members[1].(actors.Team)
	if council.Plan != (plan.RoundTable{Rounds: 1, Synthesizer: "elder", Prompt: "Decide."}) {
		t.Errorf("council's plan %#v", council.Plan)
	}
	for i, want := range []string{"elder", "younger"} {
		if a := council.Members[i].(actors.Agent); a.Name != want || a.Model != "ollama/qwen3:0.6b" {
			t.Errorf("council: %+v", a)
		}
	}
	if a := council.Members[1].(actors.Agent); a.Pool != "gpu" || !slices.Equal(a.Uses, []string{"render"}) {
		t.Errorf("younger %+v", a)
	}
	if a := council.Members[2].(actors.Agent); a.External != "translator" || a.Model != "" || a.Timeout != 5*time.Minute {
		t.Errorf("stranger %+v", a)
	}
}

func TestProviderSettings(t *testing.T) {
	f := load(t, "testdata/full.yaml")
	r, err := provider.NewResolver(provider.Levels{File: f.Level()})
	if err != nil {
		t.Fatal(err)
	}
	want := provider.StackConfig{
		Queue: provider.QueueConfig{Concurrency: 2, Waiting: -1},
		Retry: provider.RetryConfig{Attempts: 4, Initial: time.Second, Factor: 2, Jitter: -1, MaxWait: time.Minute,
			MaxTotal: 5 * time.Minute, AttemptTimeout: 30 * time.Second},
		Breaker: provider.BreakerConfig{Failures: 5, OpenFor: time.Minute, Successes: 1},
		Limiter: provider.LimiterConfig{RequestsPerMinute: 60, TokensPerMinute: 100_000},
		Cache:   &provider.CacheConfig{Size: 100, TTL: 10 * time.Minute},
	}
	got, err := r.Stack("ollama", provider.StackConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if kind := got.Kinds["summary"]; kind.Cache != nil || kind.Retry.Attempts != 2 || kind.Retry.Initial != time.Second {
		t.Errorf("summary: %+v", kind)
	}
	got.Kinds = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	e, err := r.Resolve("ollama", "summary", nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"retry.attempts": "testdata/full.yaml:68", "retry.initial": "testdata/full.yaml:56", "queue.concurrency": "testdata/full.yaml:54",
		"fallback.rungs": "testdata/full.yaml:61", "prices.llama3.2": "testdata/full.yaml:62",
	} {
		for _, v := range e.Values {
			if v.Key == key && v.Source != want {
				t.Errorf("%s is said to be from %s, want %s", key, v.Source, want)
			}
		}
	}
	if r := f.Scripted[0].Reply; r.Delay != 250*time.Millisecond || f.Scripted[1].Reply.Fail.RetryAfter != 2*time.Second {
		t.Errorf("scripted %+v", f.Scripted)
	}
}

func TestASingleAgentIsATeamOfOne(t *testing.T) {
	made := team(t, load(t, "testdata/agent.yaml"), teamfile.Options{})
	if made.Name != "clerk" || len(made.Members) != 1 {
		t.Fatalf("got %+v", made)
	}
	if a := made.Members[0].(actors.Agent); a.Role != "a clerk who can count" || len(a.Tools) != 1 || a.Model != "scripted" {
		t.Errorf("got %+v", a)
	}
}

func TestTheModelOptionReplacesEveryModel(t *testing.T) {
	f := load(t, "testdata/full.yaml")
	made := team(t, f, teamfile.Options{Model: "scripted"})
	check := func(made actors.Team) {
		t.Helper()
		elder := made.Members[1].(actors.Team).Members[0].(actors.Agent)
		if clerk := made.Members[0].(actors.Agent); clerk.Model != "scripted" || elder.Model != "scripted" {
			t.Errorf("got %q and %q", clerk.Model, elder.Model)
		}
	}
	check(made)
	if f.Members[0].Model != "scripted/clerk" {
		t.Error("the file itself was changed")
	}
	again, err := teamfile.ParseDefinition(made.Definition)
	if err != nil {
		t.Fatal(err)
	}
	check(team(t, again, teamfile.Options{})) // who resumes the run has no option
}

func TestTeamFailures(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no model", "name: t\nplan: pipeline\nmembers:\n  - {name: a, model: scripted}\n  - name: b\n", `team.yaml:5: members[1]: model is missing`},
		{"no model at all", "name: a\nrole: b\n", `team.yaml:1: model is missing`},
		{"unknown tool", "name: t\nmodel: scripted\nplan: pipeline\nmembers:\n  - name: a\n    tools:\n      - calculator\n      - calcualtor\n",
			`team.yaml:8: tool "calcualtor" is not defined; did you mean "calculator"?`},
		{"reserved name", "name: t\nmodel: scripted\nplan: pipeline\nmembers:\n  - name: plan\n", `team.yaml:5:`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := teamfile.Parse([]byte(c.text), "team.yaml")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Team(teamfile.Options{}); !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestExtraTools(t *testing.T) {
	f, err := teamfile.Parse([]byte("name: a\nrole: b\nmodel: scripted\ntools: [greet]\n"), "team.yaml")
	if err != nil {
		t.Fatal(err)
	}
	greet := tool.Must(tool.New("greet", "Greets.", func(context.Context, struct{}) (string, error) { return "hi", nil }))
	made := team(t, f, teamfile.Options{Tools: map[string]tool.Tool{"greet": greet}})
	if got := made.Members[0].(actors.Agent).Tools; len(got) != 1 || got[0].Name != "greet" {
		t.Errorf("got %+v", got)
	}
}

func TestCommandsRunInTheFilesFolder(t *testing.T) {
	dir := t.TempDir()
	text := "name: a\nrole: b\nmodel: scripted\ntools:\n  - {name: where, command: [./where.sh]}\n"
	for name, content := range map[string]string{"team.yaml": text, "where.sh": "#!/bin/sh\npwd\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	definition := team(t, load(t, filepath.Join(dir, "team.yaml")), teamfile.Options{}).Definition
	t.Chdir(t.TempDir()) // as another process, started elsewhere
	f, err := teamfile.ParseDefinition(definition)
	if err != nil {
		t.Fatal(err)
	}
	got, err := team(t, f, teamfile.Options{}).Members[0].(actors.Agent).Tools[0].Call(context.Background(), nil)
	real, _ := filepath.EvalSymlinks(dir)
	if got != dir && got != real || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, dir)
	}
}

func roundTrip(t *testing.T, f teamfile.File) {
	t.Helper()
	first, err := f.Definition()
	if err != nil {
		t.Fatal(err)
	}
	again, err := teamfile.ParseDefinition(first)
	if err != nil {
		t.Fatalf("%v\n%s", err, first)
	}
	second, err := again.Definition()
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%v\n%s\n%s", err, first, second)
	}
	if f.Digest() == "" || f.Digest() != again.Digest() {
		t.Fatalf("digests %q and %q", f.Digest(), again.Digest())
	}
}

func TestDefinitionRoundTrip(t *testing.T) {
	for _, file := range examples(t) {
		roundTrip(t, load(t, file))
	}
}

func TestDefinitionIsTheSameHoweverTheYAMLIsWritten(t *testing.T) {
	a, err := teamfile.Parse([]byte("name: a\nrole: b c\ntools: [calculator]\noptions: {top_p: 0.5, temperature: 1}\n"), "team.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b, err := teamfile.Parse([]byte("# the same\ntools:\n- name: calculator\noptions:\n  temperature: 1.0\n  top_p: 0.50\nrole: >-\n  b\n  c\nname: \"a\"\n"), "other.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if a.Digest() != b.Digest() || !strings.HasPrefix(a.Digest(), "sha256:") {
		x, _ := a.Definition()
		y, _ := b.Definition()
		t.Errorf("\n%s\n%s", x, y)
	}
}

func TestParseDefinitionRefusesWhatItCannotUse(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `[]`, `{"covey_team":2,"file":{"name":"a","role":"b"}}`, `{"covey_team":1}`, `{"covey_team":1,"file":[]}`,
		`{"covey_team":1,"file":{"name":"a","role":"b","key":"c"}}`, `{"covey_team":1,"file":{"name":"a"}}`,
		`{"covey_team":1,"file":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		if _, err := teamfile.ParseDefinition(json.RawMessage(text)); !errors.Is(err, messages.Invalid) {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

func TestAFileMadeInCode(t *testing.T) {
	f := teamfile.File{Member: teamfile.Member{Name: "a", Role: "b", Model: "scripted"}}
	team(t, f, teamfile.Options{})
	roundTrip(t, f)
	f.Name = "a b"
	if _, err := f.Team(teamfile.Options{}); !errors.Is(err, messages.Invalid) {
		t.Errorf("got %v", err)
	}
	if _, err := (teamfile.File{}).Team(teamfile.Options{}); !errors.Is(err, messages.Invalid) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseDefinition(f *testing.F) {
	file, err := teamfile.Load("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	text, err := file.Definition()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(text))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := teamfile.ParseDefinition(text)
		if err != nil {
			if !errors.Is(err, messages.Invalid) {
				t.Fatalf("class of %v", err)
			}
			return
		}
		roundTrip(t, file)
	})
}
