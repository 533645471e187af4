package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// noData reports that nothing has run here yet, so that looking leaves no data
// directory behind.
func (g *global) noData() bool {
	if g.url != "" {
		return false
	}
	_, err := os.Stat(g.folder())
	return errors.Is(err, fs.ErrNotExist)
}

// folder is the data directory.
func (g *global) folder() string { return cmp.Or(g.dir, cluster.DefaultDir) }

// data is where a client finds the data.
func (g *global) data() cluster.Config {
	return cluster.Config{Dir: g.dir, URL: g.url, Credentials: g.show, Logger: silent}
}

// needData is noData as an error.
func (g *global) needData() error {
	if g.noData() {
		return fmt.Errorf("nothing has run here: there is no data directory %s (--dir names another)", g.folder())
	}
	return nil
}

// client runs do with a client of the node or, if none runs, of its data, for at
// most a minute.
func client(cmd *cobra.Command, g *global, do func(context.Context, *cluster.Client) error) error {
	if err := g.needData(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	return clientOf(ctx, g, do)
}

// clientOf is client without a bound, and where there is no data yet it makes the
// directory.
func clientOf(ctx context.Context, g *global, do func(context.Context, *cluster.Client) error) error {
	c, err := cluster.Open(ctx, g.data())
	if err != nil {
		return err
	}
	defer c.Close()
	return do(ctx, c)
}

// tell is client for a word to a run. Its node may end on hearing it, before it
// has said that it did; then happened judges by what the run's records say.
func tell(cmd *cobra.Command, g *global, run string, do func(context.Context, *cluster.Client) error, happened func(messages.RunInfo) bool) error {
	err := client(cmd, g, do)
	if messages.ClassOf(err) != messages.Stopping {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(2 * stopWithin)
	for {
		var info messages.RunInfo
		look := client(cmd, g, func(ctx context.Context, c *cluster.Client) (err error) {
			info, err = c.Run(ctx, run)
			return err
		})
		if look == nil && happened(info) {
			return nil
		}
		select {
		case <-tick.C: // its node is about to end
		case <-late:
			return err
		case <-cmd.Context().Done():
			return err
		}
	}
}
