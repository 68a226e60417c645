package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/archive"
)

func migrateCommand() *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the archive's tables to this version",
		Long: `Bring the archive's tables to this version. Nodes do the same by themselves when
they begin to lead; this is for databases where they may not.`,
		Example: `  envoy-control-plane migrate --database-url postgres://user@host/envoy_control`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if url == "" {
				return usageError{errors.New("--database-url or DATABASE_URL is needed")}
			}
			return archive.Migrate(cmd.Context(), url)
		},
	}
	cmd.Flags().StringVar(&url, "database-url", os.Getenv("DATABASE_URL"), "Postgres of the archive")
	return cmd
}
