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
	taskFlags
	fresh bool
	quiet bool
	power bool
}

func runCmd(g *global) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   `run TEAM.yaml "QUESTION"`,
		Short: "Runs a team on a question",
		Long: `Runs the team of a file on a question: progress on stderr, the answer on stdout.
Exit status 0 only with an answer, 130 after Ctrl-C.

Every step is journalled. After a crash, or Ctrl-C, the same command goes on with
the run where it was; so does "covey resume RUN". Steps in the journal are not
paid for again.`,
		Example: `  covey run examples/renaissance/team.yaml "How did printing change Renaissance art?"
  covey run examples/renaissance/team.yaml --model scripted "…"     with no model server`,
		Args: exactly("TEAM.yaml", "the question"),
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd, g, f, args[0], args[1]) },
	}
	g.metricsFlags(cmd)
	f.flags(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.fresh, "new", false, "begin a new run even if one of the same team and question was interrupted")
	fl.BoolVar(&f.quiet, "quiet", false, "no progress on stderr")
	fl.BoolVar(&f.power, "survive-power-loss", false, "sync every step to the disk (default: steps survive the death of the process)")
	return cmd
}

func run(cmd *cobra.Command, g *global, f runFlags, path, question string) error {
	if err := f.check(question); err != nil {
		return err
	}
	file, err := teamfile.Load(path)
	if err != nil {
		return err
	}
	team, err := file.Team(teamfile.Options{Model: f.model})
	if err != nil {
		return err
	}
	task := messages.Task{ID: f.id, Team: team.Name, Prompt: question, Definition: team.Definition, Deadline: f.deadline()}
	s := newSession(cmd, g, f.quiet, team)
	s.elsewhere = "run the team on the built-in scripted model, to see it work: --model scripted"
	cfg := g.config(file)
	if f.power {
		cfg.Durability = cluster.SurvivePower
	}
	return s.with(cmd.Context(), cfg, func(ctx context.Context) (*cluster.Run, error) {
		if task.ID == "" && !f.fresh {
			task.ID = s.leftOver(ctx, task)
		}
		if task.ID == "" {
			task.ID = cluster.NewID()
		}
		task.Queue = cluster.OwnQueue(task.ID) // a command runs what it was told to run
		if err := s.ping(ctx, task.ID); err != nil {
			return nil, err
		}
		return s.node.Submit(ctx, team, task)
	})
}

func resumeCmd(g *global) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Goes on with a run that was interrupted, or that failed",
		Long: `Goes on with a run where it was, on the team that its first record defines. Steps
in the journal are not paid for again. A run that has ended with an answer gives
that answer; one that has failed is opened again. With --nats, a run whose node is
gone or frozen is taken over, and one that another node works on is waited for.`,
		Args: exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error { return resume(cmd, g, quiet, args[0]) },
	}
	g.metricsFlags(cmd)
	cmd.Flags().BoolVar(&quiet, "quiet", false, "no progress on stderr")
	return cmd
}

func resume(cmd *cobra.Command, g *global, quiet bool, id string) error {
	var task messages.Task
	err := client(cmd, g, func(ctx context.Context, c *cluster.Client) (err error) {
		task, err = c.Task(ctx, id)
		return err
	})
	if err != nil {
		return err
	}
	if len(task.Definition) == 0 {
		return fmt.Errorf("run %s: its team %q is defined in code: resume it from the program that has it", id, task.Team)
	}
	file, err := teamfile.ParseDefinition(task.Definition)
	if err != nil {
		return err
	}
	team, err := file.Team(teamfile.Options{})
	if err != nil {
		return err
	}
	s := newSession(cmd, g, quiet, team)
	return s.with(cmd.Context(), g.config(file), func(ctx context.Context) (*cluster.Run, error) {
		if err := s.ping(ctx, id); err != nil {
			return nil, err
		}
		return s.node.Resume(ctx, id, team)
	})
}

// session is one node for the length of one command.
type session struct {
	g      *global
	team   actors.Team
	out    io.Writer
	log    io.Writer // nothing is written to it with --quiet
	events *progress
	node   *cluster.Node
	// elsewhere is what else there is to do when the models do not answer.
	elsewhere string
}

func newSession(cmd *cobra.Command, g *global, quiet bool, team actors.Team) *session {
	s := &session{g: g, team: team, out: cmd.OutOrStdout(), log: cmd.ErrOrStderr()}
	if quiet {
		s.log = io.Discard
	}
	s.events = newProgress(s.log, g.where(), team)
	return s
}

// stopWithin is how long the steps under way may take once the command was
// interrupted.
const stopWithin = 3 * time.Second

// with starts a node, has begin submit a run, shows its progress, and prints its
// answer.
func (s *session) with(ctx context.Context, cfg cluster.Config, begin func(context.Context) (*cluster.Run, error)) error {
	began := time.Now()
	node, err := cluster.Start(ctx, cfg)
	if errors.Is(err, cluster.ErrInUse) {
		return fmt.Errorf("%w: --dir names one", err)
	}
	if err != nil {
		return err
	}
	s.node = node
	shown := make(chan struct{})
	sub := node.Events().Subscribe(4096, wanted)
	go func() { defer close(shown); s.events.show(sub.C) }()
	answer, id, err := s.await(ctx, begin)
	interrupted := err != nil && ctx.Err() != nil
	if interrupted {
		fmt.Fprintf(s.log, "interrupted: the step under way may take %s more (Ctrl-C again quits at once)\n", stopWithin)
	} else {
		// At once: a death while the node stops shall not take the answer along.
		sub.Close()
		<-shown
		err = s.print(answer, id, err, time.Since(began))
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	stopErr := node.Stop(stop)
	if !interrupted {
		if stopErr != nil {
			fmt.Fprintln(s.log, stopErr)
		}
		return err
	}
	sub.Close()
	<-shown
	if id == "" {
		return &exit{exitInterrupted, errors.New("interrupted before the run began")}
	}
	if messages.ClassOf(stopErr) == messages.Timeout {
		fmt.Fprintln(s.log, "the step under way was cut off")
	}
	return &exit{exitInterrupted, fmt.Errorf("interrupted; go on with: %s", s.hint("resume", id))}
}

// print prints the answer; without one it says what can be done.
func (s *session) print(answer messages.Answer, id string, err error, took time.Duration) error {
	switch {
	case err != nil && s.g.json:
		return errors.Join(s.explain(id, err), json.NewEncoder(s.out).Encode(failed{id, messages.AsError(err, messages.Crashed, "")}))
	case err != nil:
		return s.explain(id, err)
	case s.g.json:
		return json.NewEncoder(s.out).Encode(answer)
	}
	if _, err := fmt.Fprintln(s.out, answer.Text); err != nil {
		return err
	}
	fmt.Fprintln(s.log, summary(answer, took, s.events.restarts))
	return nil
}

// failed is what --json prints where there is no answer.
type failed struct {
	Run   string          `json:"run,omitempty"`
	Error *messages.Error `json:"error"`
}

// explain says what can be done about a failure. id is "" where no run began.
func (s *session) explain(id string, err error) error {
	switch {
	case id == "":
		return err
	case messages.ClassOf(err) == messages.Fenced:
		return fmt.Errorf("this process was taken for dead, and another one goes on with the run: %w\nsee where it stands: %s", err, s.hint("runs", "show", id))
	case messages.ClassOf(err) == messages.Canceled:
		return err
	}
	return fmt.Errorf("%w\nwhat was done is in the journal; see it with: %s\nonce the cause is mended, go on with:         %s", err, s.hint("runs", "show", id), s.hint("resume", id))
}

func (s *session) await(ctx context.Context, begin func(context.Context) (*cluster.Run, error)) (answer messages.Answer, id string, err error) {
	r, err := begin(ctx)
	if err != nil {
		return messages.Answer{}, "", err
	}
	answer, err = r.Wait(ctx)
	return answer, r.ID, err
}

// ping refuses a run whose models cannot answer, before anything is begun. A run
// that has ended needs none.
func (s *session) ping(ctx context.Context, id string) error {
	if info, err := s.node.Client().Run(ctx, id); err == nil {
		switch info.State {
		case messages.RunDone:
			return nil
		case messages.RunRunning:
			fmt.Fprintf(s.log, "run %s: node %s works on it; waiting for its answer\n", id, info.Node)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := s.node.Ping(ctx, s.team)
	switch {
	case err == nil || ctx.Err() == context.Canceled:
		return err
	case s.elsewhere == "":
		return err
	}
	return fmt.Errorf("%w\n\nTwo ways on:\n  mend that: start the model server, or get the model, as said above\n  or %s", err, s.elsewhere)
}

// leftOver finds the newest run of a command with the same team and question that
// is still in the queue, and that nobody works on: it was interrupted, or its process died
// with the answer in the journal and before anybody saw it.
func (s *session) leftOver(ctx context.Context, task messages.Task) string {
	tasks, err := s.node.Client().Queue(ctx)
	if err != nil {
		return ""
	}
	for _, t := range slices.Backward(tasks) {
		if t.Queue != cluster.OwnQueue(t.ID) || t.Team != task.Team || t.Prompt != task.Prompt || string(t.Definition) != string(task.Definition) ||
			!t.Deadline.IsZero() && time.Now().After(t.Deadline) {
			continue
		}
		info, err := s.node.Client().Run(ctx, t.ID)
		if err != nil {
			continue
		}
		switch info.State {
		case messages.RunDone:
			fmt.Fprintf(s.log, "run %s has answered this, %s ago, and nobody saw it (--new asks again)\n", t.ID, ago(info.Last))
		case messages.RunInterrupted, messages.RunWaiting, messages.RunQueued:
			fmt.Fprintf(s.log, "going on with run %s, interrupted %s ago (--new begins another)\n", t.ID, ago(info.Last))
		default:
			continue
		}
		return t.ID
	}
	return ""
}

// hint is a command line of the same data directory or server.
func (s *session) hint(args ...string) string {
	return "covey " + strings.Join(args, " ") + s.g.where()
}

// where are the flags that find the same data again. A credential is not shown.
func (g *global) where() string {
	switch {
	case strings.Contains(g.url, "@"):
		return " --nats URL" + g.shown()
	case g.url != "":
		return " --nats " + g.url + g.shown()
	case g.dir != "":
		return " --dir " + quote(g.dir)
	}
	return ""
}

// ago is the time since a moment, in one unit.
func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < 90*time.Second:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 90*time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
