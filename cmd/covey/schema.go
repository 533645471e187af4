package main

import (
	"github.com/spf13/cobra"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/teamfile"
)

func schemaCmd() *cobra.Command {
	var wire bool
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Prints the JSON schema of team files, for editors, or of the messages on NATS",
		Long: `Prints the JSON schema of team files. Editors with the YAML language server read
it from a file's first line:

  # yaml-language-server: $schema=team.schema.json

With --wire it prints that of the messages on NATS, for programs that speak to Covey
with a NATS client of their own: of an object whose one member is the kind of a
message and its body, as {"cancel": {"run": "r1"}}.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema := teamfile.Schema
			if wire {
				schema = messages.Schema
			}
			_, err := cmd.OutOrStdout().Write(schema())
			return err
		},
	}
	cmd.Flags().BoolVar(&wire, "wire", false, "the schema of the messages on NATS")
	return cmd
}
