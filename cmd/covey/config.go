package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/teamfile"
)

func configCmd(g *global) *cobra.Command {
	var only, kind string
	cmd := &cobra.Command{
		Use:   "config [TEAM.yaml]",
		Short: "Shows the settings in effect for each provider, and where each comes from",
		Long: `Shows every setting of every provider as it is in effect, and who said so: the
default, a line of the team file, or a variable of the environment. Then, for each
type of call, what it has otherwise.

A value in the file beats the default, a variable beats the file, and what a
member says of its own calls (call: in the file) beats both. An explicit off
beats everything.

  COVEY_<PROVIDER>_<KEY>      as COVEY_OLLAMA_RETRY_ATTEMPTS=2, COVEY_OLLAMA_CACHE=off
  COVEY_CALL_<KIND>_<KEY>     as COVEY_CALL_SUMMARY_RETRY_MAX=5s`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var file teamfile.File
			if len(args) > 0 {
				var err error
				if file, err = teamfile.Load(args[0]); err != nil {
					return err
				}
			}
			all, err := inEffect(g, file, only, kind)
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			return printConfig(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().StringVar(&only, "provider", "", "only this provider")
	cmd.Flags().StringVar(&kind, "kind", "", "only calls of this type")
	return cmd
}

// shown is what holds for a provider's calls: all, those of a type, or those of
// a member that has settings of its own.
type shown struct {
	Member string `json:"member,omitempty"`
	provider.Effective
}

// inEffect resolves every provider, every type of call, and every member that
// has settings of its own.
func inEffect(g *global, file teamfile.File, only, kind string) ([]shown, error) {
	cfg := g.config(file)
	r, err := cfg.Resolver()
	if err != nil {
		return nil, err
	}
	models, err := cfg.Registry()
	if err != nil {
		return nil, err
	}
	names := models.Names()
	if len(file.Providers) > 0 { // those that the file is about
		names = slices.Sorted(maps.Keys(file.Providers))
	}
	if only != "" {
		if !slices.Contains(models.Names(), only) {
			return nil, &exit{exitUsage, fmt.Errorf("--provider: no provider is called %q; known are %q", only, models.Names())}
		}
		names = []string{only}
	}
	kinds := append([]string{""}, r.Kinds()...)
	if kind != "" {
		kinds = []string{kind}
	}
	var all []shown
	for _, name := range names {
		for _, k := range kinds {
			e, err := r.Resolve(name, k, nil)
			if err != nil {
				return nil, fmt.Errorf("provider %s: %w", name, err)
			}
			all = append(all, shown{Effective: e})
		}
	}
	if file.Name == "" {
		return all, nil
	}
	team, err := file.Team(teamfile.Options{})
	if err != nil {
		return nil, err
	}
	for _, a := range agents(team) {
		name, _ := provider.Split(a.Model)
		if a.Settings() == nil || !slices.Contains(names, name) || kind != "" && kind != a.Kind {
			continue
		}
		e, err := r.Resolve(name, a.Kind, a.Settings())
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", a.Name, err)
		}
		all = append(all, shown{a.Name, e})
	}
	return all, nil
}

func agents(m actors.Member) (all []actors.Agent) {
	switch m := m.(type) {
	case actors.Agent:
		return []actors.Agent{m}
	case actors.Team:
		for _, sub := range m.Members {
			all = append(all, agents(sub)...)
		}
	}
	return all
}

// printConfig leaves out of types of call and of members what they have as
// every call of the provider.
func printConfig(w io.Writer, all []shown) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "PROVIDER\tCALLS\tSETTING\tVALUE\tFROM")
	of := map[string]shown{}
	for _, e := range all {
		calls := e.Kind
		switch {
		case e.Member != "":
			calls = e.Member
		case calls == "":
			calls = "all"
			of[e.Provider] = e
		}
		for _, v := range e.Values {
			if calls == "all" || !slices.Contains(of[e.Provider].Values, v) {
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", e.Provider, calls, v.Key, v.Value, v.Source)
			}
		}
	}
	return tw.Flush()
}

// metricsFlags adds the flags of a command that runs a node.
func (g *global) metricsFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&g.metrics, "metrics", "", "serve Prometheus metrics and health at this address, as 127.0.0.1:9464; an address that other machines reach needs a token in COVEY_METRICS_TOKEN (default: none)")
}

func metricsToken() string { return os.Getenv("COVEY_METRICS_TOKEN") }
