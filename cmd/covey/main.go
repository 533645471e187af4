// Command covey runs teams of LLM agents as supervised actors.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker for releases.
var version = "dev"

// Exit statuses.
const (
	exitFailed      = 1   // no answer, or the command failed
	exitUsage       = 2   // the command line is wrong
	exitInterrupted = 130 // Ctrl-C, as shells count it
)

// exit is an error with a status of its own; an empty message was said already.
type exit struct {
	status int
	err    error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := root().ExecuteContext(ctx)
	status := 0
	if err != nil {
		status = exitFailed
		var e *exit
		if errors.As(err, &e) {
			status = e.status
		}
		if err.Error() != "" {
			fmt.Fprintln(os.Stderr, "covey:", err)
		}
	}
	os.Exit(status)
}

// global are the flags of every command.
type global struct {
	dir  string
	url  string
	json bool
	// metrics is the address of commands that run a node.
	metrics string
}

func root() *cobra.Command {
	g := &global{}
	cmd := &cobra.Command{
		Use:   "covey",
		Short: "Runs teams of LLM agents as supervised actors, durably",
		Long: `covey runs teams of LLM agents as supervised actors. What they do is journalled
step by step, so that a crash of an agent, a model server or the whole process
costs a pause and never an answer.

  covey demo                          a team in action, with no model server
  covey run TEAM.yaml "QUESTION"      a team of yours
  covey runs                          what has run, and what was interrupted
  covey tree                          the live supervision tree of a running node
  covey config [TEAM.yaml]            the settings in effect, and where each comes from
  covey parked                        model calls that wait for a person`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&g.dir, "dir", "", "data directory (default .covey)")
	f.StringVar(&g.url, "nats", "", "URL of NATS servers to use instead of the embedded one")
	f.BoolVar(&g.json, "json", false, "print JSON on stdout")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{exitUsage, err} })
	cmd.AddCommand(demoCmd(), runCmd(g), resumeCmd(g), runsCmd(g), treeCmd(g), configCmd(g), parkedCmd(g), schemaCmd())
	for _, c := range cmd.Commands() {
		usageErrors(c)
	}
	return cmd
}

// usageErrors gives a wrong number of arguments the usage status.
func usageErrors(c *cobra.Command) {
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, a []string) error {
			if err := args(c, a); err != nil {
				return &exit{exitUsage, fmt.Errorf("%w\nusage: %s", err, c.UseLine())}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		usageErrors(sub)
	}
}
