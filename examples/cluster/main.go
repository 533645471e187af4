// Command cluster runs three nodes, each a process of its own, on one NATS
// server. It kills the one that works on a run (kill -9), and the answer comes
// all the same, from another.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// team thinks for a second before each of its five contributions.
var team = actors.Team{Name: "renaissance", Plan: plan.RoundTable{Rounds: 2}, Members: []actors.Member{
	actors.Agent{Name: "historian", Role: "an expert in Renaissance history", Model: "slow"},
	actors.Agent{Name: "technologist", Role: "an expert in printing", Model: "slow"},
}}

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := demonstrate
	if len(os.Args) == 3 {
		do = serve
	}
	if err := do(ctx); err != nil {
		log.Fatal(err)
	}
}

// serve is one node: it takes the team's tasks until it is stopped, or killed.
func serve(ctx context.Context) error {
	name, url := os.Args[1], os.Args[2]
	model := scripted.Of(scripted.Rule{Reply: scripted.Reply{Delay: time.Second, Text: "said on " + name}})
	return cluster.With(ctx, cluster.Config{
		URL: url, Name: name, Logger: slog.New(slog.DiscardHandler),
		Models: map[string]provider.Factory{"slow": func(string) (provider.Model, error) { return model, nil }},
	}, func(ctx context.Context, node *cluster.Node) error {
		if err := node.Serve(ctx, team); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
}

func demonstrate(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "covey-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	nats, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	nats.Start()
	defer nats.WaitForShutdown()
	defer nats.Shutdown()

	nodes := map[string]*exec.Cmd{}
	for _, name := range []string{"n1", "n2", "n3"} {
		nodes[name] = exec.CommandContext(ctx, os.Args[0], name, nats.ClientURL())
		nodes[name].Stderr = os.Stderr
		if err := nodes[name].Start(); err != nil {
			return err
		}
		defer func() {
			_ = nodes[name].Process.Signal(syscall.SIGTERM)
			_ = nodes[name].Wait()
		}()
	}

	client, err := cluster.Open(ctx, cluster.Config{URL: nats.ClientURL()})
	if err != nil {
		return err
	}
	defer client.Close()
	task, err := client.Submit(ctx, messages.Task{Team: team.Name, Prompt: "How did printing change Renaissance art?"})
	if err != nil {
		return err
	}
	var killed time.Time
	for record, err := range client.Records(ctx, task.ID) {
		if err != nil {
			return err
		}
		switch body := record.Body.(type) {
		case *messages.Answered:
			fmt.Printf("%-13s %s\n", body.Reply.From, body.Reply.Answer.Text)
			if !killed.IsZero() {
				break
			}
			run, err := client.Run(ctx, task.ID)
			if err != nil {
				return err
			}
			killed = time.Now()
			fmt.Printf("-- kill -9 %s\n", run.Node)
			if err := nodes[run.Node].Process.Kill(); err != nil {
				return err
			}
		case *messages.Done:
			run, err := client.Run(ctx, task.ID)
			if err != nil {
				return err
			}
			fmt.Printf("-- done, on %s, %.1f s after the kill; %d of %d steps were in the journal\n",
				run.Node, time.Since(killed).Seconds(), body.Answer.Journal, body.Answer.Steps)
		}
	}
	return nil
}
