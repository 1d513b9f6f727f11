package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand is for packaging: make man runs it.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man FOLDER",
		Short:  "write the manual pages, one for each command",
		Hidden: true,
		Args:   arguments(1, 1, "a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			keepTables(root)
			root.DisableAutoGenTag = true
			// A fixed date, so that the same program always writes the same pages.
			date := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Section: "1", Source: "serve " + versionText(), Manual: "serve", Date: &date}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			return nil
		},
	}
}

// keepTables makes code blocks of the indented lines in the texts of commands, whose columns the manual pages
// would lose.
func keepTables(cmd *cobra.Command) {
	cmd.Long = strings.ReplaceAll(cmd.Long, "\n  ", "\n    ")
	for _, sub := range cmd.Commands() {
		keepTables(sub)
	}
}
