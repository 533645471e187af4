package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/teamfile"
)

type runFlags struct {
	model   string
	id      string
	fresh   bool
	quiet   bool
	timeout time.Duration
	power   bool
}

func runCmd(g *global) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   `run TEAM.yaml "QUESTION"`,
		Short: "Runs a team on a question",
		Long: `Runs the team of a file on a question: progress on stderr, the answer on stdout.
Exit status 0 only with an answer.

Every step is journalled. After a crash, or Ctrl-C, the same command goes on with
the run where it was; so does "covey resume RUN". Steps in the journal are not
paid for again.`,
		Example: `  covey run examples/renaissance/team.yaml "How did printing change Renaissance art?"
  covey run examples/renaissance/team.yaml --model scripted "…"     with no model server`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd, g, f, args[0], args[1]) },
	}
	g.metricsFlags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.model, "model", "", `model for every member, as "ollama/llama3.2" or "scripted"`)
	fl.StringVar(&f.id, "id", "", "id of the run: the same id is the same run (default: made up)")
	fl.BoolVar(&f.fresh, "new", false, "begin a new run even if one of the same team and question was interrupted")
	fl.BoolVar(&f.quiet, "quiet", false, "no progress on stderr")
	fl.DurationVar(&f.timeout, "timeout", 0, "fail the run after this time (default: no limit)")
	fl.BoolVar(&f.power, "survive-power-loss", false, "sync every step to the disk (default: steps survive the death of the process)")
	return cmd
}

func run(cmd *cobra.Command, g *global, f runFlags, path, question string) error {
	if f.timeout < 0 {
		return &exit{exitUsage, fmt.Errorf("--timeout: %s is not allowed: use a positive duration, as 90s", f.timeout)}
	}
	file, err := teamfile.Load(path)
	if err != nil {
		return err
	}
	team, err := file.Team(teamfile.Options{Model: f.model})
	if err != nil {
		return err
	}
	if err := team.Check(); err != nil {
		return err
	}
	if strings.TrimSpace(question) == "" {
		return &exit{exitUsage, errors.New("the question is empty")}
	}
	task := messages.Task{ID: f.id, Team: team.Name, Prompt: question, Definition: team.Definition}
	if f.timeout > 0 {
		task.Deadline = time.Now().Add(f.timeout)
	}
	s := &session{g: g, quiet: f.quiet, out: cmd.OutOrStdout(), log: cmd.ErrOrStderr(), accept: map[string]bool{}}
	cfg := g.config(file, s.accept)
	if f.power {
		cfg.Durability = cluster.SurvivePower
	}
	return s.with(cmd.Context(), cfg, func(ctx context.Context) (*cluster.Run, error) {
		if task.ID == "" && !f.fresh {
			task.ID = s.interrupted(ctx, task)
		}
		if task.ID == "" {
			task.ID = cluster.NewID()
		}
		s.accept[task.ID] = true
		return s.begin(ctx, team, task)
	})
}

func resumeCmd(g *global) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Goes on with a run that was interrupted, or that failed",
		Long: `Goes on with a run where it was, on the team that its first record defines. Steps
in the journal are not paid for again. A run that has ended with an answer gives
that answer.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			task, err := taskOf(cmd.Context(), g, args[0])
			if err != nil {
				return err
			}
			if len(task.Definition) == 0 {
				return fmt.Errorf("run %s: its team %q is defined in code: resume it from the program that has it", task.ID, task.Team)
			}
			file, err := teamfile.ParseDefinition(task.Definition)
			if err != nil {
				return err
			}
			team, err := file.Team(teamfile.Options{})
			if err != nil {
				return err
			}
			s := &session{g: g, quiet: quiet, out: cmd.OutOrStdout(), log: cmd.ErrOrStderr(), accept: map[string]bool{task.ID: true}}
			return s.with(cmd.Context(), g.config(file, s.accept), func(ctx context.Context) (*cluster.Run, error) {
				if err := s.ping(ctx, team); err != nil {
					return nil, err
				}
				return s.node.Resume(ctx, task.ID, team)
			})
		},
	}
	g.metricsFlags(cmd)
	cmd.Flags().BoolVar(&quiet, "quiet", false, "no progress on stderr")
	return cmd
}

func taskOf(ctx context.Context, g *global, run string) (messages.Task, error) {
	c, err := cluster.Open(ctx, cluster.Config{Dir: g.dir, URL: g.url})
	if err != nil {
		return messages.Task{}, err
	}
	defer c.Close()
	return c.Task(ctx, run)
}

// session is one node for the length of one command.
type session struct {
	g      *global
	quiet  bool
	out    io.Writer
	log    io.Writer
	accept map[string]bool
	node   *cluster.Node
}

// stopWithin is how long the steps under way may take once the command was
// interrupted.
const stopWithin = 3 * time.Second

// with starts a node, has begin submit a run, shows its progress, and prints its
// answer.
func (s *session) with(ctx context.Context, cfg cluster.Config, begin func(context.Context) (*cluster.Run, error)) error {
	node, err := cluster.Start(ctx, cfg)
	if err != nil {
		return err
	}
	s.node = node
	began := time.Now()
	shown := make(chan struct{})
	sub := node.Events().Subscribe(4096, wanted)
	go func() {
		defer close(shown)
		if s.quiet {
			for range sub.C {
			}
			return
		}
		show(s.log, sub.C)
	}()
	answer, id, err := s.await(ctx, begin)
	interrupted := err != nil && ctx.Err() != nil
	if interrupted && !s.quiet {
		fmt.Fprintln(s.log, "interrupted: leaving the run where it is (Ctrl-C again to quit at once)")
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	stopErr := node.Stop(stop)
	sub.Close()
	<-shown
	if stopErr != nil && !s.quiet {
		fmt.Fprintln(s.log, stopErr)
	}
	switch {
	case interrupted && id != "":
		return &exit{exitInterrupted, fmt.Errorf("interrupted; resume with: %s", s.hint("resume", id))}
	case interrupted:
		return &exit{exitInterrupted, errors.New("interrupted before the run began")}
	case err != nil:
		if s.g.json {
			_ = json.NewEncoder(s.out).Encode(map[string]any{"run": id, "error": messages.AsError(err, messages.Crashed, "")})
		}
		if id != "" && id != noRun {
			err = fmt.Errorf("%w\nthe run is in the journal; after mending the cause: %s", err, s.hint("resume", id))
		}
		return err
	}
	if s.g.json {
		return json.NewEncoder(s.out).Encode(answer)
	}
	fmt.Fprintln(s.out, answer.Text)
	if !s.quiet {
		fmt.Fprintln(s.log, summary(answer, time.Since(began)))
	}
	return nil
}

const noRun = ""

func (s *session) await(ctx context.Context, begin func(context.Context) (*cluster.Run, error)) (messages.Answer, string, error) {
	r, err := begin(ctx)
	if err != nil {
		return messages.Answer{}, noRun, err
	}
	a, err := r.Wait(ctx)
	return a, r.ID, err
}

func (s *session) begin(ctx context.Context, team actors.Team, task messages.Task) (*cluster.Run, error) {
	if err := s.ping(ctx, team); err != nil {
		return nil, err
	}
	return s.node.Submit(ctx, team, task)
}

// ping refuses a team whose models cannot answer, before anything is begun.
func (s *session) ping(ctx context.Context, team actors.Team) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := s.node.Ping(ctx, team)
	if err == nil || ctx.Err() == context.Canceled {
		return err
	}
	return fmt.Errorf("%w\n\nTwo ways on:\n  start the model server and get the model, as the line above says\n  or run the team on the built-in scripted model, to see it work: --model scripted", err)
}

// interrupted finds the newest run of the same team and question that was cut
// off.
func (s *session) interrupted(ctx context.Context, task messages.Task) string {
	infos, err := s.node.Client().Runs(ctx)
	if err != nil {
		return ""
	}
	for _, i := range slices.Backward(infos) {
		if i.Team != task.Team || i.Prompt != task.Prompt || i.State != messages.RunInterrupted && i.State != messages.RunQueued && i.State != messages.RunWaiting {
			continue
		}
		if t, err := s.node.Client().Task(ctx, i.Run); err == nil && string(t.Definition) == string(task.Definition) {
			if !s.quiet {
				fmt.Fprintf(s.log, "going on with run %s, which was interrupted %s ago (--new begins another)\n", i.Run, ago(i.Last))
			}
			return i.Run
		}
	}
	return ""
}

// hint is a command line of the same data directory or server.
func (s *session) hint(args ...string) string {
	return "covey " + strings.Join(args, " ") + s.g.where()
}

func (g *global) where() string {
	switch {
	case g.url != "":
		return " --nats URL"
	case g.dir != "":
		return " --dir " + g.dir
	}
	return ""
}

func ago(t time.Time) string { return time.Since(t).Round(time.Second).String() }
