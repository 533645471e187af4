package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

const demoQuestion = "Why did the printing press spread so fast?"

func demoCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Runs a team that is made to fail, with no model server",
		Long: `Runs a small team end to end, on the embedded NATS and a scripted model: nothing
else is needed, and nothing is kept. A tool panics, an agent crashes in mid-turn,
and the model fails until its circuit breaker opens; each is mended as it would be
in earnest, and the answer still comes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return demo(cmd) },
	}
}

// demoModel is the scripted model of the demo. What fails is scripted too: the
// writer's model, five attempts in a row.
func demoModel() *scripted.Model {
	broken := scripted.Reply{Fail: &scripted.Failure{Class: messages.Transient, Message: "503 the model server is overloaded"}}
	return scripted.Of(
		scripted.Rule{When: scripted.When{System: "archivist", Result: "!"}, Reply: scripted.Reply{
			ToolCalls: []scripted.ToolCall{{Name: "count_presses", Arguments: map[string]any{"year": 1480}}}}},
		scripted.Rule{When: scripted.When{System: "archivist", Result: "*"}, Reply: scripted.Reply{
			Text: "By 1480 there were presses in more than a hundred towns, thirty years after the first one in Mainz."}},
		scripted.Rule{When: scripted.When{System: "economist"}, Reply: scripted.Reply{
			Text: "A press paid for itself within a few hundred copies, and every town with a fair or a university was a market."}},
		scripted.Rule{When: scripted.When{System: "writer"}, Reply: broken, Then: []scripted.Reply{broken, broken, broken, broken, {
			Text: "The press spread fast because it paid: within thirty years more than a hundred towns had one, each with buyers at its door."}}},
	)
}

// demoTeam is three agents in a pipeline. The archivist's tool panics once, and
// the economist's own code crashes it once, in mid-turn.
func demoTeam() actors.Team {
	var lookups, reviews atomic.Int32
	presses := tool.Must(tool.New("count_presses", "Counts the towns that had a printing press in a year.",
		func(_ context.Context, in struct {
			Year int `json:"year" jsonschema:"the year"`
		}) (string, error) {
			if lookups.Add(1) == 1 {
				panic("index out of range: the card catalogue is empty")
			}
			return fmt.Sprintf("towns with a press in %d: 110", in.Year), nil
		}, tool.Pure))
	return actors.Team{
		Name: "printing",
		Plan: plan.Pipeline{},
		Members: []actors.Member{
			actors.Agent{Name: "archivist", Role: "an archivist who looks numbers up", Model: "scripted", Tools: []tool.Tool{presses}},
			actors.Agent{Name: "economist", Role: "an economist", Model: "scripted", Validate: func(context.Context, string) error {
				if reviews.Add(1) == 1 {
					panic("nil map in the economist's own code")
				}
				return nil
			}},
			actors.Agent{Name: "writer", Role: "a writer who puts it together", Model: "scripted"},
		},
	}
}

func demo(cmd *cobra.Command) error {
	ctx, log := cmd.Context(), cmd.ErrOrStderr()
	dir, err := os.MkdirTemp("", "covey-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	model := demoModel()
	node, err := cluster.Start(ctx, cluster.Config{
		Dir: dir, Name: "demo",
		Models: map[string]provider.Factory{"scripted": func(string) (provider.Model, error) { return model, nil }},
		Providers: map[string]provider.StackConfig{"scripted": {
			Retry:   provider.RetryConfig{Attempts: 2, Initial: 150 * time.Millisecond},
			Breaker: provider.BreakerConfig{Failures: 2, OpenFor: time.Second, Successes: 1},
		}},
		Logger: silent,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(log, "This is a demonstration. The model is scripted: its answers and its failures were\nwritten beforehand. The actors, the restarts, the breaker and the journal are real.")
	fmt.Fprintln(log)

	team := demoTeam()
	var tree messages.TreeNode
	works := team.Plan
	team.Plan = actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		ans, err := works.Run(ctx, s)
		tree = node.Tree(ctx) // while the team is still there
		return ans, err
	})
	sub := node.Events().Subscribe(4096, wanted)
	shown := make(chan struct{})
	events := newProgress(log, "", team)
	go func() { defer close(shown); events.show(sub.C) }()
	began := time.Now()
	answer, err := node.Ask(ctx, team, demoQuestion)
	took := time.Since(began)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	stopped := node.Stop(stop)
	sub.Close()
	<-shown
	if err != nil && ctx.Err() != nil {
		return &exit{exitInterrupted, errors.New("interrupted")}
	}
	if err := errors.Join(err, stopped); err != nil {
		return err
	}
	fmt.Fprintln(log)
	fmt.Fprintln(cmd.OutOrStdout(), "(scripted) "+answer.Text)
	fmt.Fprintln(log)
	fmt.Fprintln(log, summary(answer, took, events.restarts))
	fmt.Fprintln(log, "\nThe supervision tree, just before the end:")
	printTrees(log, []messages.TreeNode{tree}, time.Now())
	return nil
}
