package teamfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/teamfile"
)

func TestLoadTheExamples(t *testing.T) {
	for _, file := range examples(t) {
		f, err := teamfile.Load(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if dir, _ := filepath.Abs(filepath.Dir(file)); f.Dir != dir {
			t.Errorf("%s: folder %q", file, f.Dir)
		}
	}
}

// good is a file with numbered lines for the faults of the next test.
const good = `name: press
model: scripted
plan: {kind: round_table, rounds: 1}
members:
  - name: historian
    role: an expert
    tools: [calculator]
  - name: printer
    options:
      temperature: 0.5
tools:
  - name: ink
    command: [/bin/true]
    parameters: {type: object}
`

func TestParseSaysWhereAndWhat(t *testing.T) {
	if _, err := teamfile.Parse([]byte(good), "team.yaml"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown key at the top", "model:", "modle:", `team.yaml:2: unknown key "modle"; did you mean "model"?`},
		{"unknown key in a member", "    role:", "    roel:", `team.yaml:6: unknown key "roel" in members[0]; did you mean "role"?`},
		{"unknown key, deep", "temperature", "temprature", `team.yaml:10: unknown key "temprature" in members[1].options; did you mean "temperature"?`},
		{"unknown key, near none", "model:", "xyzzy:", `team.yaml:2: unknown key "xyzzy"; known are call, calls, external, fallback`},
		{"an API key", "model:", "api_key: sk-1\nmodel:", `team.yaml:2: unknown key "api_key"`},
		{"wrong type", "temperature: 0.5", "temperature: warm", `team.yaml:10: members[1].options.temperature: "warm" is not allowed: use a number of at least 0`},
		{"out of range", "rounds: 1", "rounds: 0", `team.yaml:3: plan.rounds: 0 is not allowed: use a whole number of at least 1`},
		{"number for text", "an expert", "5", `team.yaml:6: members[0].role: 5 is not allowed: use a string`},
		{"enum", "round_table, rounds: 1", "roundtable", `team.yaml:3: plan.kind: "roundtable" is not allowed: use one of "pipeline", "round_table"`},
		{"short enum", "{kind: round_table, rounds: 1}", "vote", `team.yaml:3: plan: "vote" is not allowed: use one of "pipeline", "round_table"`},
		{"neither plan", "{kind: round_table, rounds: 1}", "7", `team.yaml:3: plan: 7 is not allowed: use one of "pipeline", "round_table", or an object with kind, prompt, rounds, synthesizer`},
		{"missing name", "  - name: printer\n    options", "  - options", `team.yaml:8: members[1].name is missing: use a name of 1 to 64 letters`},
		{"bad name", "name: press", "name: the press", `team.yaml:1: name: "the press" is not allowed: use a name`},
		{"name with a dot", "printer", "a.b", `team.yaml:8: members[1].name: "a.b" is not allowed`},
		{"twice", "printer", "historian", `team.yaml:8: members: "historian" is there twice`},
		{"key twice", "    role: an expert", "    role: an expert\n    role: another", `team.yaml:7: not YAML: mapping key "role" already defined`},
		{"bad duration", "    role: an expert", "    timeout: 10", `team.yaml:6: members[0].timeout: 10 is not allowed: use a duration, as 250ms, 10s or 1m30s`},
		{"bad duration text", "    role: an expert", "    timeout: soon", `team.yaml:6: members[0].timeout: "soon" is not allowed: use a duration`},
		{"huge duration", "    role: an expert", "    timeout: 9999999999h", `team.yaml:6: members[0].timeout: "9999999999h" is not allowed: use a duration`},
		{"no plan", "plan: {kind: round_table, rounds: 1}\n", "", `team.yaml:1: plan is missing: use one of pipeline, round_table`},
		{"plan's key", "round_table, rounds: 1", "pipeline, rounds: 1", `team.yaml:3: plan: a pipeline takes no rounds`},
		{"external with a model's keys", "    role: an expert", "    external: translator", `team.yaml:7: members[0]: tools is not allowed together with external: the program "translator" answers`},
		{"pool with a dot", "    role: an expert", "    pool: g.pu", `team.yaml:6: members[0].pool: "g.pu" is not allowed`},
		{"tool twice in uses", "[calculator]", "[]\n    uses: [render, render]", `team.yaml:8: members[0]: uses: "render" is there twice`},
		{"tool used that it has", "[calculator]", "[calculator]\n    uses: [calculator]", `team.yaml:8: members[0]: uses: "calculator" is in tools too`},
		{"synthesizer", "rounds: 1", "synthesizer: histrian", `team.yaml:3: plan: synthesizer: "histrian" is no member; did you mean "historian"?`},
		{"role of a team", "model: scripted", "role: a team", `team.yaml:2: role is for an agent, and this has members`},
		{"plan of an agent", "    role: an expert", "    plan: pipeline", `team.yaml:6: members[0]: plan is for a team, and this has no members`},
		{"tool twice", "[calculator]", "[calculator, calculator]", `team.yaml:7: members[0]: tools: "calculator" is there twice`},
		{"built-in name", "name: ink", "name: calculator", `team.yaml:12: tools: "calculator" is built in`},
		{"tool's schema", "{type: object}", "{type: list}", `team.yaml:12: tool "ink": parameters: type: "list" is not allowed: use "object"`},
		{"tool without command", "    command: [/bin/true]\n", "", `team.yaml:12: tools[0].command is missing`},
		{"command in one text", "[/bin/true]", "/bin/true", `team.yaml:13: tools[0].command: "/bin/true" is not allowed: use a list of texts`},
		{"effect", "    parameters: {type: object}", "    effect: none", `team.yaml:14: tools[0].effect: "none" is not allowed: use one of "unsafe", "pure", "idempotent"`},
		{"a user in a url", "tools:\n  - name", "providers: {ollama: {url: 'http://me:secret@host'}}\ntools:\n  - name", `team.yaml:11: providers.ollama.url: a user, a password or a query is not allowed`},
		{"a key in a url", "tools:\n  - name", "providers: {ollama: {url: 'http://host?key=secret'}}\ntools:\n  - name", `a query is not allowed`},
		{"no url", "tools:\n  - name", "providers: {ollama: {url: localhost}}\ntools:\n  - name", `team.yaml:11: providers.ollama.url: "localhost" is not allowed: use an address`},
		{"negative retries", "tools:\n  - name", "providers: {ollama: {retry: {attempts: -1}}}\ntools:\n  - name", `team.yaml:11: providers.ollama.retry.attempts: -1 is not allowed`},
		{"a zero cap", "tools:\n  - name", "providers: {ollama: {retry: {max: 0s}}}\ntools:\n  - name", `team.yaml:11: providers.ollama: retry.max: 0s is not allowed: use a duration from 1ns to 24h`},
		{"11 rungs", "tools:\n  - name", "providers: {ollama: {fallback: {rungs: [a, b, c, d, e, f, g, h, i, j]}}}\ntools:\n  - name", `fallback: rungs: 11 with the first choice is not allowed: use at most 10`},
		{"a price below zero", "tools:\n  - name", "providers: {ollama: {prices: {m: {input: -1, output: 1}}}}\ntools:\n  - name", `prices.m.input: -1 is not allowed: use dollars per million tokens`},
		{"canned without texts", "tools:\n  - name", "providers: {ollama: {fallback: [canned]}}\ntools:\n  - name", `fallback: canned: none is not allowed`},
		{"a price is missing", "tools:\n  - name", "routers: {cheap: {by: cost, choices: [ollama/x], budget: 5}}\ntools:\n  - name", `team.yaml:11: routers.cheap: `},
		{"a router that takes no budget", "tools:\n  - name", "routers: {fast: {by: load, choices: [a, b], budget: 5}}\ntools:\n  - name", `budget`},
		{"a key instead of a variable", "tools:\n  - name", "providers: {openai: {key_env: sk-secret-secret}}\ntools:\n  - name", `key_env: this is not allowed: use the name of an environment variable`},
		{"a queue for a type of call", "tools:\n  - name", "calls: {summary: {queue: {concurrency: 1}}}\ntools:\n  - name", `team.yaml:11: calls.summary: queue is not allowed here`},
		{"an unknown setting", "tools:\n  - name", "calls: {summary: {retry: {atempts: 1}}}\ntools:\n  - name", `unknown key "atempts" in calls.summary.retry; did you mean "attempts"?`},
		{"unknown provider", "tools:\n  - name", "providers: {olama: {}}\ntools:\n  - name", `team.yaml:11: providers: no member's model is of "olama"; did you mean "ollama"?`},
		{"class", "tools:\n  - name", "supervision: {on_class: {crash: stop}}\ntools:\n  - name", `team.yaml:11: unknown key "crash" in supervision.on_class; did you mean "crashed"?`},
		{"jitter", "tools:\n  - name", "supervision: {backoff: {jitter: 2}}\ntools:\n  - name", `team.yaml:11: supervision.backoff.jitter: 2 is not allowed: use a number from 0 to 1`},
		{"scripted rule", "tools:\n  - name", "scripted: [{reply: {text: '{{.Nope'}}]\ntools:\n  - name", `team.yaml:11: scripted: rule 1: text`},
		{"null", "model: scripted", "model:", `team.yaml:2: model: null is not allowed: use a model, as ollama/llama3.2`},
		{"model", "model: scripted", "model: 'a b'", `team.yaml:2: model: "a b" is not allowed: use a model, as`},
		{"alias", "model: scripted", "model: *m", `*m has no &m before it`},
		{"tag", "model: scripted", "model: !!str scripted", `team.yaml:2: the tag !!str is not allowed here`},
		{"infinity", "0.5", ".inf", `team.yaml:10: .inf is not a number that can be used here`},
		{"not YAML", "members:", "members: [", `team.yaml:`},
		{"tab", "    role", "\trole", `team.yaml:6: not YAML`},
		{"second document", "tools:\n", "---\nname: b\n---\ntools:\n", `a second document is not allowed`},
		{"a list", good, "- a\n- b\n", `team.yaml:1: ["a","b"] is not allowed: use a mapping with a name`},
		{"text", good, "hello", `team.yaml:1: "hello" is not allowed: use a mapping with a name`},
		{"nothing", good, "", `team.yaml:1: name is missing`},
		{"a name alone", good, "name: a\n", `neither`},
		{"huge", good, strings.Repeat("# x\n", 100_000), `use at most 262144`},
		{"brackets", good, strings.Repeat("[", 20_000), `more than 10000 brackets`},
		{"deep", good, strings.Repeat("a: {", 100) + strings.Repeat("}", 100), `team.yaml:1: nested more than 64 deep`},
		{"laughs", good, laughs(), `more than 50000 values are not allowed`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.new, 1)
			if text == good {
				t.Fatal("the test changes nothing")
			}
			_, err := teamfile.Parse([]byte(text), "team.yaml")
			if !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Fatal("the error tells a secret")
			}
		})
	}
}

// laughs is a small file that aliases make huge.
func laughs() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 8 {
		b.WriteString(strings.NewReplacer("N", string(rune('1'+i)), "P", string(rune('0'+i))).
			Replace("aN: &aN [*aP, *aP, *aP, *aP, *aP, *aP, *aP, *aP, *aP, *aP]\n"))
	}
	return b.String()
}

func TestLoadFailures(t *testing.T) {
	if _, err := teamfile.Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, messages.Invalid) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := teamfile.Load(t.TempDir()); !errors.Is(err, messages.Invalid) {
		t.Errorf("got %v", err)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	f, err := teamfile.Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	elder := f.Members[1].Members[0].Options
	if *elder.Temperature != 0.5 || *elder.TopP != 0.9 || elder.MaxTokens != 200 {
		t.Errorf("got %+v", elder)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add(laughs())
	if full, err := os.ReadFile("testdata/full.yaml"); err == nil {
		f.Add(string(full))
	}
	f.Add("name: &a [*a]\n")
	f.Add("<<: {name: a, role: b}\nmodel: scripted\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := teamfile.Parse([]byte(text), "team.yaml")
		if err != nil {
			if !errors.Is(err, messages.Invalid) {
				t.Fatalf("class of %v", err)
			}
			return
		}
		roundTrip(t, file)
	})
}
