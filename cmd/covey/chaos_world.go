package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/internal/chaos"
)

// chaosNATSCmd is the NATS server of `covey chaos`.
func chaosNATSCmd() *cobra.Command {
	var port int
	var dir string
	cmd := &cobra.Command{
		Use: "chaos-nats", Short: "The NATS server of covey chaos", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return chaos.ServeNATS(cmd.Context(), port, dir, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().IntVar(&port, "port", 0, "its port on 127.0.0.1")
	cmd.Flags().StringVar(&dir, "store", "", "where its data is")
	return cmd
}

// toolMoment is how long a tool of `covey chaos` takes before its effect, and
// after it.
const toolMoment = 20 * time.Millisecond

// chaosToolCmd is the tools of `covey chaos` and their verify commands.
func chaosToolCmd() *cobra.Command {
	return &cobra.Command{
		Use: "chaos-tool do|done FOLDER", Short: "A tool of covey chaos", Hidden: true, Args: exactly("do or done", "FOLDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "do" {
				return chaos.Do(cmd.Context(), args[1], toolMoment, cmd.InOrStdin(), cmd.OutOrStdout())
			}
			return verdict(chaos.Done(args[1], cmd.InOrStdin(), cmd.OutOrStdout()))
		},
	}
}

// verdict has a verify command end with 0 for yes, 1 for no, and 2 where it
// cannot tell.
func verdict(yes bool, err error) error {
	switch {
	case err != nil:
		return &exit{exitUsage, err}
	case !yes:
		return &exit{status: exitFailed}
	}
	return nil
}
