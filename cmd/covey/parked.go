package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/teamfile"
)

func parkedCmd(g *global) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "Lists model calls that wait for a person; answers and replays them",
		Long: `Lists the model calls that no machine could answer and that wait for a person: the
rung "parked" of a fallback. A run that waits for one goes on as soon as it is
answered, and a run that was interrupted finds the answer when it is resumed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				calls, err := c.Parked(ctx)
				shown := []cluster.Parked{}
				for _, p := range calls {
					if all || p.Answer == nil {
						shown = append(shown, p)
					}
				}
				if g.json {
					if jerr := json.NewEncoder(cmd.OutOrStdout()).Encode(shown); jerr != nil {
						return jerr
					}
					return err
				}
				listParked(cmd.OutOrStdout(), shown)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "those that are answered, too")
	cmd.AddCommand(parkedShowCmd(g), parkedAnswerCmd(g), parkedReplayCmd(g), parkedDropCmd(g))
	return cmd
}

func listParked(w io.Writer, calls []cluster.Parked) {
	if len(calls) == 0 {
		fmt.Fprintln(w, "no call waits")
		return
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "ID\tSESSION\tMODEL\tSINCE\tSTATE\tQUESTION")
	for _, p := range calls {
		state := "waits"
		if p.Answer != nil {
			state = "answered by " + p.Answer.By
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s ago\t%s\t%s\n", p.ID, p.Call.Request.Session, p.Call.Ladder, ago(p.Since), state, clip(lastWord(p.Call.Request), 60))
	}
	_ = tw.Flush()
}

// lastWord is what the call asks.
func lastWord(r provider.Request) string {
	if n := len(r.Messages); n > 0 {
		return r.Messages[n-1].Content
	}
	return ""
}

func parkedShowCmd(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Shows a parked call: the conversation, and why no machine answered",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				p, err := c.ParkedCall(ctx, args[0])
				if err != nil {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(p)
				}
				showParked(cmd.OutOrStdout(), p)
				return nil
			})
		},
	}
}

func showParked(w io.Writer, p cluster.Parked) {
	fmt.Fprintf(w, "parked   %s, %s ago\nsession  %s\nmodel    %s\n", p.ID, ago(p.Since), p.Call.Request.Session, p.Call.Ladder)
	if p.Call.Request.Kind != "" {
		fmt.Fprintf(w, "type     %s\n", p.Call.Request.Kind)
	}
	for _, e := range p.Call.Before {
		fmt.Fprintf(w, "failed   %s\n", e)
	}
	for _, m := range p.Call.Request.Messages {
		fmt.Fprintf(w, "\n%s: %s\n", m.Role, m.Content)
	}
	if f := p.Call.Request.Format; len(f) > 0 {
		fmt.Fprintf(w, "\nThe answer must be JSON that fits: %s\n", f)
	}
	if p.Answer != nil {
		fmt.Fprintf(w, "\nanswered by %s: %s\n", p.Answer.By, p.Answer.Reply.Message.Content)
	}
}

func parkedAnswerCmd(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "answer ID TEXT",
		Short: "Answers a parked call",
		Args:  exactly("ID", "TEXT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				if err := c.AnswerParked(ctx, args[0], args[1]); err != nil || !g.json {
					return err
				}
				p, err := c.ParkedCall(ctx, args[0])
				if err != nil {
					return err
				}
				return json.NewEncoder(cmd.OutOrStdout()).Encode(p)
			})
		},
	}
}

func parkedReplayCmd(g *global) *cobra.Command {
	var model, team string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "replay ID",
		Short: "Makes a parked call again, and answers it with the model's reply",
		Long: `Makes a parked call again: on the model that was asked first, or another one. If
it fails, the call stays parked.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 {
				return &exit{exitUsage, fmt.Errorf("--timeout: %s is not allowed: use a positive duration, as 90s", timeout)}
			}
			var file teamfile.File
			if team != "" {
				var err error
				if file, err = teamfile.Load(team); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c, err := cluster.Open(ctx, g.data())
			if err != nil {
				return err
			}
			defer c.Close()
			p, err := c.ParkedCall(ctx, args[0])
			if err != nil {
				return err
			}
			m, err := g.alone(file, cmp.Or(model, p.Call.Ladder))
			if err != nil {
				return err
			}
			reply, err := c.ReplayParked(ctx, args[0], m)
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(reply)
			}
			fmt.Fprintln(cmd.OutOrStdout(), reply.Message.Content)
			return nil
		},
	}
	cmd.Flags().StringVar(&model, "model", "", `the model, as "ollama/llama3.2" (default: the one that was asked first)`)
	cmd.Flags().StringVar(&team, "team", "", "the team file whose providers are used (default: the built-in ones)")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "give up after this time")
	return cmd
}

// alone is a model with its stack around it, without a node.
func (g *global) alone(file teamfile.File, ref string) (provider.Model, error) {
	cfg := g.config(file)
	models, err := cfg.Registry()
	if err != nil {
		return nil, err
	}
	m, err := models.Model(ref)
	if err != nil {
		return nil, err
	}
	r, err := cfg.Resolver()
	if err != nil {
		return nil, err
	}
	name, _ := provider.Split(ref)
	sc, err := r.Stack(name, cfg.Providers[name])
	if err != nil {
		return nil, err
	}
	sc.Name = ref
	stack, err := provider.NewStack(sc)
	if err != nil {
		return nil, messages.AsError(err, messages.Invalid, ref)
	}
	return stack.Wrap(m), nil
}

func parkedDropCmd(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "drop ID…",
		Short: "Removes parked calls and their answers; who waits for one waits on",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				for _, id := range args {
					if err := c.DropParked(ctx, id); err != nil {
						return err
					}
				}
				if !g.json {
					return nil
				}
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string][]string{"dropped": args})
			})
		},
	}
}
