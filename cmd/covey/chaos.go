package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/internal/chaos"
	"github.com/covey-run/covey/teamfile"
)

type chaosFlags struct {
	model  string
	faults string
	keep   string
	o      chaos.Options
}

func chaosCmd(g *global) *cobra.Command {
	var f chaosFlags
	cmd := &cobra.Command{
		Use:   `chaos [TEAM.yaml "QUESTION"]`,
		Short: "Breaks a cluster on purpose while a team works on it, and says what held",
		Long: `Starts nodes and a NATS server on this machine, as processes of their own, keeps
runs of the team going on them, and meanwhile kills, freezes, stops and cuts off
nodes and the server at random. Then it waits for the last run, reads the journal,
and says what held: every run answered or failed with a class, no record under a
stale claim, nothing left behind. Exit status 1 if something did not.

Without a team it takes one of its own, whose model and whose tools count what
they are asked to do: then it also says whether a tool's effect came twice, or a
model call was paid for twice without need. The tools of your team are really called,
and its models really asked: --model scripted spares the models.

The seed determines what is done when; the same seed does the same again.`,
		Example: `  covey chaos
  covey chaos team.yaml "How did printing change Renaissance art?" --model scripted --runs 20
  covey chaos --seed 7 --for 5m --fault kill,partition --keep /tmp/chaos`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return exactly("TEAM.yaml", "the question")(nil, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runChaos(cmd, g, f, args) },
	}
	fl := cmd.Flags()
	fl.IntVar(&f.o.Nodes, "nodes", 3, "how many nodes")
	fl.IntVar(&f.o.Runs, "runs", 50, "how many runs are under way at any time")
	fl.DurationVar(&f.o.For, "for", 2*time.Minute, "for how long")
	fl.Uint64Var(&f.o.Seed, "seed", 0, "what determines the faults (default: another one each time)")
	fl.BoolVar(&f.o.Embedded, "embedded", false, "have the nodes be the NATS servers, with three replicas")
	fl.StringVar(&f.faults, "fault", "", "which faults, as kill,stop,term,nats,partition (default: all)")
	fl.StringVar(&f.keep, "keep", "", "keep logs and data in this folder")
	fl.StringVar(&f.model, "model", "", `model for every member, as "ollama/llama3.2" or "scripted"`)
	return cmd
}

func runChaos(cmd *cobra.Command, g *global, f chaosFlags, args []string) (err error) {
	if g.url != "" || g.dir != "" {
		return &exit{exitUsage, errors.New("--nats and --dir are not for chaos: it has a server and a folder of its own")}
	}
	o := f.o
	if f.faults != "" {
		if o.Faults, err = chaos.ParseKinds(f.faults); err != nil {
			return &exit{exitUsage, err}
		}
	}
	if len(args) > 0 {
		if err := theirTeam(&o, f.model, args[0], args[1]); err != nil {
			return err
		}
	} else if f.model != "" {
		return &exit{exitUsage, errors.New("--model is for a team of yours: name its file")}
	}
	if err := o.Check(); err != nil {
		return &exit{exitUsage, err}
	}
	if o.Binary, err = os.Executable(); err != nil {
		return err
	}
	o.Seed = cmp.Or(o.Seed, rand.Uint64N(1e6)+1)
	o.Log = cmd.ErrOrStderr()
	if o.Dir, err = chaosFolder(f.keep); err != nil {
		return err
	}
	fmt.Fprintf(o.Log, "seed %d; logs and data are in %s\n", o.Seed, o.Dir)
	report, err := chaos.Run(cmd.Context(), o)
	interrupted := cmd.Context().Err() != nil
	if f.keep == "" && (interrupted || err == nil && report.OK()) {
		err = errors.Join(err, os.RemoveAll(o.Dir))
	}
	switch {
	case interrupted:
		return &exit{exitInterrupted, errors.New("interrupted; every process has ended")}
	case err != nil:
		return fmt.Errorf("%w\nlogs and data are in %s", err, o.Dir)
	case g.json:
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
	default:
		err = report.Print(cmd.OutOrStdout())
	}
	if err == nil && !report.OK() {
		err = fmt.Errorf("not everything held; logs and data are in %s\nthe same again: %s", o.Dir, again(o, f, args))
	}
	return err
}

// theirTeam is the team of a file, under load.
func theirTeam(o *chaos.Options, model, path, question string) error {
	if strings.TrimSpace(question) == "" {
		return &exit{exitUsage, errors.New("the question is empty")}
	}
	file, err := teamfile.Load(path)
	if err != nil {
		return err
	}
	team, err := file.Team(teamfile.Options{Model: model})
	if err != nil {
		return err
	}
	if o.Team, err = filepath.Abs(path); err != nil {
		return err
	}
	o.Prompt, o.Name, o.Definition, o.Pools = question, team.Name, team.Definition, chaos.Pools(file.Member)
	return nil
}

// chaosFolder is the folder to keep, which must be new or empty, or a temporary
// one.
func chaosFolder(keep string) (string, error) {
	if keep == "" {
		return os.MkdirTemp("", "covey-chaos-")
	}
	if err := os.MkdirAll(keep, 0o700); err != nil {
		return "", err
	}
	files, err := os.ReadDir(keep)
	if err == nil && len(files) > 0 {
		err = &exit{exitUsage, fmt.Errorf("--keep: %s is not empty: name a new folder", keep)}
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(keep)
}

// again is the command line that does the same.
func again(o chaos.Options, f chaosFlags, args []string) string {
	line := "covey chaos"
	for _, a := range args {
		line += fmt.Sprintf(" %q", a)
	}
	line += fmt.Sprintf(" --seed %d --for %s --runs %d --nodes %d", o.Seed, o.For, o.Runs, o.Nodes)
	if f.model != "" {
		line += " --model " + f.model
	}
	if o.Embedded {
		line += " --embedded"
	}
	if f.faults != "" {
		line += " --fault " + f.faults
	}
	return line
}
