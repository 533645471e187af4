package cluster_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/ollama"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/internal/ollamatest"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// onOllama starts a node whose provider "ollama" is a real server.
func onOllama(t *testing.T, s *ollamatest.Server) *cluster.Node {
	return start(t, cluster.Config{
		Models:    map[string]provider.Factory{"ollama": ollama.Factory(ollama.Config{BaseURL: s.URL})},
		Providers: map[string]provider.StackConfig{"ollama": {Retry: provider.RetryConfig{Initial: 50 * time.Millisecond}}},
	})
}

// collect gathers a node's events until the test is over.
func collect(t *testing.T, n *cluster.Node, want func(messages.Event) bool) *supervisor.Subscription {
	sub := n.Events().Subscribe(100_000, want)
	t.Cleanup(sub.Close)
	return sub
}

func TestTeamOnRealOllama(t *testing.T) {
	s := ollamatest.Start(t)
	s.CreateScripted(t, "tiny")
	n := onOllama(t, s)
	chunks := collect(t, n, func(ev messages.Event) bool { return ev.Kind == messages.ModelChunk })
	var asked []string
	weather := tool.Must(tool.New("get_weather", "the weather in a city",
		func(_ context.Context, in struct {
			City string `json:"city"`
		}) (string, error) {
			asked = append(asked, in.City)
			return "sunny, 24 degrees", nil
		}, tool.Pure))
	team := actors.Team{Name: "travel", Plan: plan.RoundTable{Rounds: 1, Synthesizer: "geographer"}, Members: []actors.Member{
		actors.Agent{Name: "geographer", Role: "a geographer", Model: "ollama/tiny"},
		actors.Agent{Name: "forecaster", Role: "a forecaster", Model: "ollama/tiny", Tools: []tool.Tool{weather}},
	}}
	if err := n.Ping(testContext(t), team); err != nil {
		t.Fatal(err)
	}
	run, err := n.Submit(testContext(t), team, messages.Task{Prompt: "Where shall we go?"})
	if err != nil {
		t.Fatal(err)
	}
	ans, err := run.Wait(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if ans.Text != "The capital of France is Paris." || ans.Stop != messages.StopEnd {
		t.Errorf("answer: %+v", ans)
	}
	if len(asked) != 1 || asked[0] != "Paris" {
		t.Errorf("the tool was called with %q, want once with Paris", asked)
	}
	if u := ans.Usage; u.Calls != 4 || u.InputTokens == 0 || u.OutputTokens == 0 {
		t.Errorf("usage: %+v", u)
	}
	var texts []string
	for len(chunks.C) > 0 {
		texts = append(texts, (<-chunks.C).Text)
	}
	if got := strings.Join(texts, "|"); !strings.Contains(got, "The capital| of France| is Paris.") || !strings.Contains(got, "It is sunny| in Paris.") {
		t.Errorf("chunks as they came: %q", got)
	}
}

func TestRunnerKilledInMidStream(t *testing.T) {
	s := ollamatest.Start(t)
	s.CreateScripted(t, "tiny")
	n := onOllama(t, s)
	events := collect(t, n, func(ev messages.Event) bool {
		return ev.Kind == messages.ModelChunk || ev.Kind == messages.ProviderRetry
	})
	run, err := n.Submit(testContext(t), actors.Agent{Name: "talker", Model: "ollama/tiny", Options: provider.Options{MaxTokens: 2000}},
		messages.Task{Prompt: "loop"})
	if err != nil {
		t.Fatal(err)
	}
	if ev := <-events.C; ev.Kind != messages.ModelChunk || ev.Attempt != 1 {
		t.Fatalf("first event: %+v", ev)
	}
	if killed := s.KillRunners(t); killed == 0 {
		t.Fatal("no runner was there to be killed")
	}
	ans, err := run.Wait(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	retries := 0
	for len(events.C) > 0 {
		if ev := <-events.C; ev.Kind == messages.ProviderRetry {
			retries++
		}
	}
	if retries == 0 {
		t.Error("the call was not retried")
	}
	if words := strings.Fields(ans.Text); len(words) != 2000 || ans.Stop != messages.StopLength {
		t.Errorf("%d words, stopped by %q: want the 2000 of one whole attempt, and nothing of the broken one", len(words), ans.Stop)
	}
}

func TestTeamOnTrainedModel(t *testing.T) {
	path := ollamatest.TrainedModel(t)
	s := ollamatest.Start(t)
	s.CreateFromFile(t, "gemma", path, "", map[string]any{"num_ctx": 2048})
	n := onOllama(t, s)
	short := provider.Options{MaxTokens: 40}
	team := actors.Team{Name: "renaissance", Plan: plan.RoundTable{Rounds: 1}, Members: []actors.Member{
		actors.Agent{Name: "historian", Role: "an expert in Renaissance history. Answer in two sentences", Model: "ollama/gemma", Options: short},
		actors.Agent{Name: "technologist", Role: "an expert in printing. Answer in two sentences", Model: "ollama/gemma", Options: short},
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ans, err := n.Ask(ctx, team, "How did printing change Renaissance art?")
	if err != nil {
		t.Fatal(err)
	}
	if ans.Text == "" || ans.Usage.OutputTokens == 0 {
		t.Errorf("%+v", ans)
	}
	t.Logf("a real model's answer: %s", ans.Text)
}
