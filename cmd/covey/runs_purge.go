package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// purging is which runs to remove.
type purging struct {
	ended  bool
	older  time.Duration
	dryRun bool
	runFilter
}

// purged is what --json prints.
type purged struct {
	Runs   []string `json:"runs"`
	Count  int      `json:"count"`
	DryRun bool     `json:"dry_run,omitempty"`
}

func purgeCmd(g *global) *cobra.Command {
	var f purging
	cmd := &cobra.Command{
		Use:   "purge [RUN…]",
		Short: "Removes runs that have ended, records and all",
		Long: `Removes runs that have ended, records and all: those that are named, or with --ended
all of them that are old enough.`,
		Example: `  covey runs purge --ended --older-than 24h --dry-run
  covey runs purge --ended --state failed --team press`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.checkWith(args); err != nil {
				return &exit{exitUsage, err}
			}
			if err := g.needData(); err != nil {
				return err
			}
			return clientOf(cmd.Context(), g, func(ctx context.Context, c *cluster.Client) error {
				runs, unread := args, error(nil)
				if f.ended {
					runs, unread = f.pick(ctx, c, time.Now())
				}
				did := purged{Runs: []string{}, DryRun: f.dryRun}
				err := f.purge(ctx, c, runs, &did)
				if perr := printPurged(cmd, g, did, f.ended); perr != nil {
					return perr
				}
				return errors.Join(err, unread)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.ended, "ended", false, "all runs that have ended")
	fl.DurationVar(&f.older, "older-than", 0, "with --ended: only those whose last record is at least this old")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be removed, and remove nothing")
	f.flags(cmd, g)
	completeRuns(cmd, g, messages.RunDone, messages.RunFailed)
	return cmd
}

func (f *purging) checkWith(args []string) error {
	switch {
	case len(args) == 0 && !f.ended:
		return errors.New("RUN is missing: name runs, or use --ended")
	case len(args) > 0 && (f.ended || f.older != 0 || f.runFilter != runFilter{}):
		return errors.New("runs that are named cannot be picked by --ended, --older-than and the filters as well: use one of both")
	case f.older < 0:
		return fmt.Errorf("--older-than: %s is not allowed: use a positive duration, as 24h", f.older)
	case f.state != "" && f.state != string(messages.RunDone) && f.state != string(messages.RunFailed):
		return fmt.Errorf("--state: %q is not allowed: only runs that have ended can be purged, use done or failed", f.state)
	}
	return f.check(time.Now())
}

// pick lists the runs that have ended and are wanted.
func (f *purging) pick(ctx context.Context, c *cluster.Client, now time.Time) (runs []string, err error) {
	infos, err := c.Runs(ctx)
	for _, i := range infos {
		if hasEnded(i) && f.wants(i) && now.Sub(i.Last) >= f.older {
			runs = append(runs, i.Run)
		}
	}
	return runs, err
}

func hasEnded(i messages.RunInfo) bool {
	return i.State == messages.RunDone || i.State == messages.RunFailed
}

// purge removes runs up to the first that cannot be.
func (f *purging) purge(ctx context.Context, c *cluster.Client, runs []string, did *purged) error {
	for _, run := range runs {
		if err := f.purgeOne(ctx, c, run); err != nil {
			return err
		}
		did.Runs = append(did.Runs, run)
		did.Count++
	}
	return nil
}

func (f *purging) purgeOne(ctx context.Context, c *cluster.Client, run string) error {
	if !f.dryRun {
		return c.Purge(ctx, run)
	}
	i, err := c.Run(ctx, run)
	if err == nil && !hasEnded(i) {
		err = fmt.Errorf("run %s is %s: only one that has ended can be purged", run, i.State)
	}
	return err
}

func printPurged(cmd *cobra.Command, g *global, did purged, total bool) error {
	w := cmd.OutOrStdout()
	if g.json {
		return json.NewEncoder(w).Encode(did)
	}
	is, are := "is", "are"
	if did.DryRun {
		is, are = "would be", "would be"
	}
	for _, run := range did.Runs {
		fmt.Fprintf(w, "run %s %s removed\n", run, is)
	}
	if total {
		fmt.Fprintf(w, "%s %s removed\n", count(did.Count, "run"), are)
	}
	return nil
}
