package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/internal/certs"
)

// certDir is the folder of certificates that is told no name.
const certDir = "certs"

func certCmd(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Makes and shows the certificates and keys of a cluster",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(certInitCmd(g), certShowCmd(g))
	return cmd
}

func certInitCmd(g *global) *cobra.Command {
	var dir string
	var days int
	cmd := &cobra.Command{
		Use:   "init NAME[=HOST,HOST…]…",
		Short: "Makes what nodes, submitters and observers need to trust one another",
		Long: `Makes a folder with a certificate authority, and for each node a certificate for
the hosts under which it is reached (default: localhost, 127.0.0.1, ::1) and a key.
A further call adds nodes; what is there is never replaced. To renew a certificate,
remove NAME.pem and NAME.key first.

  ca.key                      signs: keep it where it is
  ca.pem                      for everybody
  users.json                  for each node: whose keys have which role
  NAME.pem NAME.key NAME.nk   for that node
  submit.nk, observe.nk       for those who submit, and for those who only look
  member.nk                   for programs that serve members ("external")
  nats.conf                   for a NATS server of your own, with the same roles`,
		Example: `  covey cert init n1=10.0.0.1 n2=10.0.0.2 n3=10.0.0.3
  covey runs --nats tls://10.0.0.1:4222 --ca certs/ca.pem --nkey certs/observe.nk`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("NAME is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var nodes []certs.Spec
			for _, a := range args {
				name, hosts, some := strings.Cut(a, "=")
				s := certs.Spec{Name: name}
				if some {
					s.Hosts = strings.Split(hosts, ",")
				}
				nodes = append(nodes, s)
			}
			made, err := certs.Init(dir, nodes, days)
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
					Dir  string   `json:"dir"`
					Made []string `json:"made"`
				}{dir, append([]string{}, made...)})
			}
			for _, f := range made {
				fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(dir, f))
			}
			if len(made) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "all of it is there already")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", certDir, "the folder")
	cmd.Flags().IntVar(&days, "days", certs.DefaultDays, "how long the nodes' certificates hold")
	return cmd
}

func certShowCmd(g *global) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Shows a folder's certificates, when they end, and whose keys have which role",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := certs.Show(dir)
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			return printCerts(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", certDir, "the folder")
	return cmd
}

func printCerts(w io.Writer, all []certs.Shown) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tROLE\tEXPIRES\tHOSTS\tFINGERPRINT\tKEY")
	for _, s := range all {
		expires, print := "-", "-"
		if s.Fingerprint != "" {
			expires, print = s.Expires.Local().Format(time.DateOnly), s.Fingerprint[:23]+"…"
		}
		if s.Expired {
			expires += " (expired)"
		}
		key := s.Key
		if key == "" {
			key = "-"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Role, expires, list(s.Hosts), print, key)
	}
	return tw.Flush()
}
