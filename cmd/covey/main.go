// Command covey runs teams of LLM agents as supervised actors.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
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
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals // the second one ends the process at once
		os.Exit(exitInterrupted)
	}()
	g := &global{}
	cmd, out := root(g), &counting{w: os.Stdout}
	cmd.SetOut(out)
	os.Exit(g.report(cmd.ExecuteContext(ctx), out))
}

// report says a command's error in words on stderr, and with --json as an object
// on stdout, unless there is something already. It returns the exit status.
func (g *global) report(err error, out *counting) int {
	if err == nil {
		return 0
	}
	status := exitFailed
	var e *exit
	if errors.As(err, &e) {
		status = e.status
	}
	if err.Error() == "" {
		return status
	}
	fmt.Fprintln(os.Stderr, "covey:", inWords(err))
	if g.json && !out.used {
		_ = json.NewEncoder(out).Encode(failed{Error: messages.AsError(err, messages.Invalid, "")}) // it is said on stderr
	}
	return status
}

// counting knows whether anything was written to it.
type counting struct {
	w    io.Writer
	used bool
}

// Write is part of [io.Writer].
func (c *counting) Write(p []byte) (int, error) {
	c.used = true
	return c.w.Write(p)
}

// inWords is an error for a person: that a mistake is invalid goes without
// saying.
func inWords(err error) string {
	if messages.ClassOf(err) == messages.Invalid {
		return strings.Replace(err.Error(), " (invalid)", "", 1)
	}
	return err.Error()
}

// global are the flags of every command.
type global struct {
	dir  string
	url  string
	json bool
	// show is what the servers of url are shown.
	show cluster.Credentials
	// metrics is the address of commands that run a node.
	metrics string
}

func root(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "covey",
		Short: "Runs teams of LLM agents as supervised actors, durably",
		Long: `covey runs teams of LLM agents as supervised actors. What they do is journalled
step by step, so that a crash of an agent, a model server or the whole process
costs a pause and never an answer.

  covey demo                          a team in action, with no model server
  covey run TEAM.yaml "QUESTION"      a team of yours
  covey runs                          what has run, and what was interrupted
  covey serve                         a node that takes tasks from the queue
  covey submit TEAM.yaml "QUESTION"   a question for the queue of the nodes
  covey nodes                         the nodes, and how each is
  covey tree                          the live supervision tree of the nodes
  covey config [TEAM.yaml]            the settings in effect, and where each comes from
  covey parked                        model calls that wait for a person
  covey cert init n1=HOST n2=HOST …   certificates and keys of a cluster

Exit status: 0 if the command did what it says, or the run ended with an answer; 1
if it failed, or the run ended without one; 2 for a wrong command line; 130 after
Ctrl-C. With --json each command prints JSON on stdout, and a failure as
{"error": {"class": …, "message": …}}; words for people go to stderr.`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			maybe := ""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				maybe = "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return &exit{exitUsage, fmt.Errorf("unknown command %q%s\n`covey help` lists the commands", args[0], maybe)}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
	f := cmd.PersistentFlags()
	f.StringVar(&g.dir, "dir", "", "data directory (default .covey)")
	f.StringVar(&g.url, "nats", "", "URL of NATS servers to use instead of the embedded one")
	g.credentialFlags(f)
	f.BoolVar(&g.json, "json", false, "print JSON on stdout")
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exit{exitUsage, fmt.Errorf("%w\n`%s --help` lists the flags", err, c.CommandPath())}
	})
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error {
		if g.url != "" && g.dir != "" {
			return &exit{exitUsage, errors.New("--nats and --dir exclude each other: with --nats the data is on that server")}
		}
		if err := g.checkCredentials(); err != nil {
			return &exit{exitUsage, err}
		}
		return nil
	}
	cmd.AddCommand(demoCmd(), runCmd(g), resumeCmd(g), serveCmd(g), submitCmd(g), runsCmd(g), nodesCmd(g), nodeCmd(g), treeCmd(g), configCmd(g), parkedCmd(g), certCmd(g), schemaCmd())
	cmd.AddCommand(chaosCmd(g), chaosNATSCmd(), chaosToolCmd())
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

// exactly wants one argument for each name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", names[len(args)])
		case len(args) > len(names):
			return fmt.Errorf("%q is one argument too many: put quotes around a text with spaces", args[len(names)])
		}
		return nil
	}
}
