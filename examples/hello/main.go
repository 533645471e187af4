// Command hello is the smallest team: two experts at a round table.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/cluster"
)

func main() {
	err := cluster.With(context.Background(), cluster.Config{}, func(ctx context.Context, node *cluster.Node) error {
		answer, err := node.Ask(ctx, actors.Team{Name: "renaissance", Plan: plan.RoundTable{}, Members: []actors.Member{
			actors.Agent{Name: "historian", Role: "an expert in Renaissance history", Model: "scripted"},
			actors.Agent{Name: "technologist", Role: "an expert in printing", Model: "scripted"},
		}}, "How did printing change Renaissance art?")
		fmt.Println(answer.Text)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}
