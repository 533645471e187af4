package main

import (
	"github.com/spf13/cobra"

	"github.com/covey-run/covey/teamfile"
)

func schemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Prints the JSON schema of team files, for editors",
		Long: `Prints the JSON schema of team files. Editors with the YAML language server read
it from a file's first line:

  # yaml-language-server: $schema=team.schema.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(teamfile.Schema())
			return err
		},
	}
}
