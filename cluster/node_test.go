package cluster_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func start(t testing.TB, cfg cluster.Config) *cluster.Node {
	t.Helper()
	if cfg.Dir == "" && cfg.URL == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	n, err := cluster.Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(testContext(t)); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return n
}

func TestRoundTable(t *testing.T) {
	n := start(t, cluster.Config{})
	team := actors.Team{Name: "renaissance", Plan: plan.RoundTable{}, Members: []actors.Member{
		actors.Agent{Name: "historian", Role: "an expert in history", Model: "scripted"},
		actors.Agent{Name: "technologist", Role: "an expert in printing", Model: "scripted"},
	}}
	ans, err := n.Ask(testContext(t), team, "How did printing change art?")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", ans)
	if ans.Steps != 5 || ans.Usage.Calls != 5 {
		t.Fatalf("%+v", ans)
	}
}

func TestToolsInARun(t *testing.T) {
	add := tool.Must(tool.New("add", "adds", func(_ context.Context, in struct{ A, B int }) (int, error) { return in.A + in.B, nil }, tool.Pure))
	model := scripted.Of(
		scripted.Rule{When: scripted.When{Result: "add"}, Reply: scripted.Reply{Text: "The sum is 5."}},
		scripted.Rule{Reply: scripted.Reply{ToolCalls: []scripted.ToolCall{{Name: "add", Arguments: map[string]any{"A": 2, "B": 3}}}}},
	)
	n := start(t, cluster.Config{Models: map[string]provider.Factory{"scripted": func(string) (provider.Model, error) { return model, nil }}})
	ans, err := n.Ask(testContext(t), actors.Agent{Name: "adder", Model: "scripted", Tools: []tool.Tool{add}}, "2+3?")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(ans.Text, "5") || ans.Steps != 3 {
		t.Fatalf("%+v", ans)
	}
	_ = messages.Done{}
}
