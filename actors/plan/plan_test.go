package plan_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask has a team of a, b and c work to a plan. Each answers with its name and the
// number of the call. It returns what the model was asked, in order: who, and
// what it was told.
func ask(t *testing.T, p actors.Plan) (messages.Answer, [][2]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	m := scripted.Of(scripted.Rule{Reply: scripted.Reply{Text: "{{slice .System 8 9}}{{.Call}}"}})
	n, err := cluster.Start(ctx, cluster.Config{
		Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Models: map[string]provider.Factory{"m": func(string) (provider.Model, error) { return m, nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	ans, err := n.Ask(ctx, team(p), "why?")
	if err != nil {
		t.Fatal(err)
	}
	var calls [][2]string
	for _, c := range m.Calls() {
		ms := c.Request.Messages
		calls = append(calls, [2]string{strings.TrimSuffix(strings.TrimPrefix(ms[0].Content, "You are "), "."), ms[len(ms)-1].Content})
	}
	return ans, calls
}

func team(p actors.Plan) actors.Team {
	t := actors.Team{Name: "team", Plan: p}
	for _, name := range []string{"a", "b", "c"} {
		t.Members = append(t.Members, actors.Agent{Name: name, Role: name, Model: "m"})
	}
	return t
}

// heard is a prompt after what was said.
func heard(prompt string, said ...string) string {
	if len(said) == 0 {
		return prompt
	}
	b := "The discussion so far:\n\n"
	for _, s := range said {
		b += "[" + s[:1] + "] " + s + "\n\n"
	}
	return b + prompt
}

func compare(t *testing.T, got, want [][2]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d calls, want %d: %q", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("call %d: %q, want %q", i+1, got[i], want[i])
		}
	}
}

func TestPipeline(t *testing.T) {
	ans, got := ask(t, plan.Pipeline{})
	compare(t, got, [][2]string{{"a", heard("why?")}, {"b", heard("why?", "a1")}, {"c", heard("why?", "a1", "b2")}})
	if ans.Text != "c3" || ans.By != "c" {
		t.Errorf("%+v", ans)
	}
}

func TestRoundTable(t *testing.T) {
	ans, got := ask(t, plan.RoundTable{Synthesizer: "b", Prompt: "sum up"})
	compare(t, got, [][2]string{
		{"a", heard("why?")}, {"b", heard("why?", "a1")}, {"c", heard("why?", "a1", "b2")},
		{"a", heard("why?", "a1", "b2", "c3")}, {"b", heard("why?", "a1", "b2", "c3", "a4")}, {"c", heard("why?", "a1", "b2", "c3", "a4", "b5")},
		{"b", heard("sum up", "a1", "b2", "c3", "a4", "b5", "c6")},
	})
	if ans.Text != "b7" || ans.By != "b" {
		t.Errorf("%+v", ans)
	}
}

func TestRoundTableDefaults(t *testing.T) {
	_, got := ask(t, plan.RoundTable{Rounds: 1})
	if last := got[3]; len(got) != 4 || last[0] != "a" || !strings.Contains(last[1], "why?") || !strings.Contains(last[1], "Put the discussion together") {
		t.Errorf("%q", got)
	}
}

func TestCheckTeam(t *testing.T) {
	for _, tt := range []struct {
		name  string
		plan  actors.Plan
		words string
	}{
		{"rounds", plan.RoundTable{Rounds: -1}, "rounds: -1"},
		{"synthesizer", plan.RoundTable{Synthesizer: "nobody"}, "use a member (a, b, c)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := team(tt.plan).Check()
			if messages.ClassOf(err) != messages.Invalid || !strings.Contains(err.Error(), tt.words) {
				t.Error(err)
			}
		})
	}
	if err := team(plan.RoundTable{Synthesizer: "c"}).Check(); err != nil {
		t.Error(err)
	}
}
