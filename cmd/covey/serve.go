package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/teamfile"
)

type serveFlags struct {
	name      string
	pools     []string
	maxRuns   int
	maxGuests int
	model     string
	file      string
	power     bool
	quiet     bool
	drain     time.Duration
	cluster   clusterFlags
}

func serveCmd(g *global) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Runs a node that takes tasks from the queue, until it is told to stop",
		Long: `Runs a node that works on what "covey submit" puts into the queue: on --nats beside
the other nodes there, else on the embedded server of the data directory, which
other commands then reach. It says on stderr when it is ready, and a line for each
run that begins, ends or is handed over; with --json every event is a line of JSON
on stdout.

After SIGTERM or Ctrl-C it takes nothing more, waits for the steps under way, and
hands its runs over; other nodes go on with them, and nothing is paid for twice.
Exit status 0 if every step could end, 1 if some were cut off; a second signal ends
it at once, with 130.`,
		Example: `  covey serve --nats nats://10.0.0.1:4222 --name n1 --pool gpu
  covey serve --model scripted                 a trial, with no model server`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd, g, f) },
	}
	g.metricsFlags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "the node's name (default: made up, new at each start)")
	fl.StringSliceVar(&f.pools, "pool", nil, "a pool that the node belongs to; may be repeated")
	fl.IntVar(&f.maxRuns, "max-runs", 16, "how many runs it works on at once")
	fl.IntVar(&f.maxGuests, "max-guests", 256, "how many members of other nodes' runs live on it at once")
	fl.StringVar(&f.model, "model", "", `model for every member of every team, as "ollama/llama3.2" or "scripted"`)
	fl.StringVar(&f.file, "file", "", "the team file whose providers, calls and routers are used (default: the built-in ones)")
	fl.BoolVar(&f.power, "survive-power-loss", false, "sync every step to the disk (default: steps survive the death of the process)")
	fl.BoolVar(&f.quiet, "quiet", false, "nothing on stderr but errors")
	fl.DurationVar(&f.drain, "drain-timeout", 30*time.Second, "how long the steps under way may take once it was told to stop")
	f.cluster.flags(cmd)
	_ = cmd.MarkFlagFilename("file", "yaml", "yml")
	return cmd
}

func (f *serveFlags) check() error {
	named := [][2]string{}
	if f.name != "" {
		named = append(named, [2]string{"--name", f.name})
	}
	for _, p := range f.pools {
		named = append(named, [2]string{"--pool", p})
	}
	for _, n := range named {
		if err := messages.CheckName(n[0], n[1]); err != nil {
			return err
		}
	}
	switch {
	case f.maxRuns < 1:
		return fmt.Errorf("--max-runs: %d is not allowed: use at least 1", f.maxRuns)
	case f.maxGuests < 1:
		return fmt.Errorf("--max-guests: %d is not allowed: use at least 1", f.maxGuests)
	case f.drain < 0:
		return fmt.Errorf("--drain-timeout: %s is not allowed: use a duration that is not negative, as 30s", f.drain)
	}
	return nil
}

// config is the node's configuration.
func (f *serveFlags) config(g *global) (cluster.Config, error) {
	var file teamfile.File
	if f.file != "" {
		var err error
		if file, err = teamfile.Load(f.file); err != nil {
			return cluster.Config{}, err
		}
	}
	cfg := g.config(file)
	var err error
	if cfg.Cluster, err = f.cluster.config(g, f.name); err != nil {
		return cfg, &exit{exitUsage, err}
	}
	cfg.Name, cfg.Pools, cfg.MaxRuns, cfg.MaxGuests = f.name, f.pools, f.maxRuns, f.maxGuests
	if f.power {
		cfg.Durability = cluster.SurvivePower
	}
	if f.model == "" {
		return cfg, nil
	}
	models, err := cfg.Registry()
	if err == nil {
		_, err = models.Model(f.model)
	}
	cfg.Load = func(definition json.RawMessage) (actors.Member, error) {
		file, err := teamfile.ParseDefinition(definition)
		if err != nil {
			return nil, err
		}
		return file.Team(teamfile.Options{Model: f.model})
	}
	return cfg, err
}

func serve(cmd *cobra.Command, g *global, f serveFlags) error {
	if err := f.check(); err != nil {
		return &exit{exitUsage, err}
	}
	cfg, err := f.config(g)
	if err != nil {
		return err
	}
	log, least := cmd.ErrOrStderr(), slog.LevelWarn
	if f.quiet {
		log, least = io.Discard, slog.LevelError
	}
	cfg.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: least}))
	ctx := cmd.Context()
	node, err := cluster.Start(ctx, cfg)
	if errors.Is(err, cluster.ErrInUse) {
		return fmt.Errorf("%w: --dir names one", err)
	}
	if err != nil {
		return err
	}
	sub, told := node.Events().Subscribe(4096, f.wanted(g)), make(chan struct{})
	go func() { defer close(told); f.tell(g, sub.C, cmd.OutOrStdout(), log) }()
	if err = node.ServeDefined(ctx); err == nil {
		ready(log, g, node.Name(), f)
		<-ctx.Done()
		fmt.Fprintf(log, "node %s drains: the steps under way may take %s (a second signal ends it at once)\n", node.Name(), f.drain)
	} else if ctx.Err() != nil {
		err = nil // it was told to stop before it was ready
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.drain)
	defer cancel()
	err = errors.Join(err, node.Stop(stop))
	sub.Close()
	<-told
	if err == nil {
		fmt.Fprintf(log, "node %s has stopped\n", node.Name())
	}
	return err
}

// ready says that the node takes tasks.
func ready(w io.Writer, g *global, name string, f serveFlags) {
	at := "data in " + g.folder()
	if g.url != "" {
		at = "NATS at " + hosts(g.url)
	}
	if f.cluster.on {
		at += ", clients at " + cmp.Or(f.cluster.cfg.Listen, cluster.DefaultListen)
	}
	pools := "no pools"
	if len(f.pools) > 0 {
		pools = "pools " + strings.Join(f.pools, ", ")
	}
	fmt.Fprintf(w, "node %s is ready: %s, %s, room for %s and %s\n", name, at, pools, count(f.maxRuns, "run"), count(f.maxGuests, "guest"))
}

// hosts is a list of URLs without their schemes and credentials.
func hosts(urls string) string {
	all := strings.Split(urls, ",")
	for i, u := range all {
		_, host, some := strings.Cut(u, "://")
		if !some {
			host = u
		}
		all[i] = host[strings.LastIndexByte(host, '@')+1:]
	}
	return strings.Join(all, ",")
}

// wanted picks the events that are told.
func (serveFlags) wanted(g *global) func(messages.Event) bool {
	if g.json {
		return wanted
	}
	return func(ev messages.Event) bool {
		switch ev.Kind {
		case messages.RunStarted, messages.RunEnded, messages.RunSuspended, messages.RunWaits, messages.CallParked:
			return true
		}
		return false
	}
}

// tell writes each event, until there are no more.
func (serveFlags) tell(g *global, events <-chan messages.Event, out, log io.Writer) {
	enc := json.NewEncoder(out)
	p := progress{where: g.where()}
	for ev := range events {
		if g.json {
			_ = enc.Encode(ev) // nobody reads: the node works on
		}
		if l := servedLine(&p, ev); l != "" {
			fmt.Fprintln(log, l)
		}
	}
}

// servedLine tells what became of a run.
func servedLine(p *progress, ev messages.Event) string {
	switch {
	case ev.Kind == messages.RunEnded && ev.Error != nil:
		return fmt.Sprintf("run %s of team %s has failed: %s", ev.Run, ev.Name, short(ev.Error))
	case ev.Kind == messages.RunEnded:
		return fmt.Sprintf("run %s of team %s is done: %s", ev.Run, ev.Name, clip(ev.Text, 80))
	case ev.Kind == messages.RunSuspended:
		return fmt.Sprintf("run %s of team %s is handed over: %s", ev.Run, ev.Name, short(ev.Error))
	case ev.Kind == messages.RunStarted, ev.Kind == messages.RunWaits, ev.Kind == messages.CallParked:
		return p.line(ev)
	}
	return ""
}
