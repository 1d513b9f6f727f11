package main

import (
	"github.com/spf13/cobra"

	"serve/provenance"
)

func newBundleCommand(w *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "move models to machines without a network",
		Long: `A bundle is a single tar file that holds models with their hashes, licenses and
revisions. It may be signed with an Ed25519 key:

  openssl genpkey -algorithm ed25519 -out key.pem
  openssl pkey -in key.pem -pubout -out public.pem`,
		Example: `  serve bundle export mistral-7b nomic-embed-text models.tar --sign-key key.pem
  serve bundle import models.tar --verify-key public.pem`,
		Args: arguments(0, 0, "export or import"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBundleExportCommand(w), newBundleImportCommand(w))
	return cmd
}

func newBundleExportCommand(w *cli) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "export MODEL... FILE",
		Short: "export models to a bundle",
		Args:  arguments(2, -1, "at least one model, and the file to write"),
	}
	flagsOf(cmd).Text(&key, "sign-key", "", "PEM `file` of the Ed25519 private key to sign with")
	return w.provenanceCommand(cmd, func(cmd *cobra.Command, c *provenance.Provenance, args []string) error {
		last := len(args) - 1
		return c.ExportBundle(cmd.Context(), key, args[:last], args[last])
	})
}

func newBundleImportCommand(w *cli) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "import models from a bundle",
		Long:  "import verifies the whole bundle before it adds any model to the cache.",
		Args:  arguments(1, 1, "the file to read"),
	}
	flagsOf(cmd).Text(&key, "verify-key", "", "PEM `file` of the Ed25519 public key to verify the signature with")
	w.rules.Declare(flagsOf(cmd))
	return w.provenanceCommand(cmd, func(cmd *cobra.Command, c *provenance.Provenance, args []string) error {
		return c.ImportBundle(cmd.Context(), key, args[0])
	})
}
