package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// watching are the flags of a command that shows what is there now.
type watching struct {
	watch bool
	every time.Duration
}

func (f *watching) flags(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "draw it again and again, until Ctrl-C"+until)
	cmd.Flags().DurationVar(&f.every, "every", 500*time.Millisecond, "how often --watch draws")
}

// show connects to the nodes and draws once, or again and again. gone is what to
// say where no node is there.
func (f *watching) show(cmd *cobra.Command, g *global, gone string, draw func(context.Context, *cluster.Client, io.Writer) error) error {
	if f.every < 50*time.Millisecond {
		return &exit{exitUsage, fmt.Errorf("--every: %s is not allowed: use at least 50ms", f.every)}
	}
	ctx := cmd.Context()
	c, err := cluster.Connect(ctx, g.data())
	if messages.ClassOf(err) == messages.Unavailable && g.url == "" {
		return fmt.Errorf("no node runs on %s: %s (--dir and --nats name others)", g.folder(), gone)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	once := func(w io.Writer) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return draw(ctx, c, w)
	}
	if !f.watch {
		return once(cmd.OutOrStdout())
	}
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for drawn := 0; ; drawn++ {
		var b strings.Builder
		if err := once(&b); err != nil {
			switch {
			case ctx.Err() != nil:
				return nil
			case drawn == 0:
				return err
			case g.url == "":
				fmt.Fprintln(cmd.ErrOrStderr(), "the node has ended")
				return nil
			}
			b.Reset()
			fmt.Fprintln(cmd.ErrOrStderr(), err) // and another time it may answer again
		}
		clear := ""
		if !g.json && b.Len() > 0 {
			clear = "\x1b[H\x1b[2J"
		}
		if _, err := fmt.Fprint(cmd.OutOrStdout(), clear, b.String()); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// vanished remembers who was there at the last look.
type vanished map[string]bool

// since returns who was there then and is not now, and remembers who is.
func (v vanished) since(now []string) (gone []string) {
	is := map[string]bool{}
	for _, n := range now {
		is[n] = true
	}
	for n := range v {
		if !is[n] {
			gone = append(gone, n)
			delete(v, n)
		}
	}
	for n := range is {
		v[n] = true
	}
	return gone
}
