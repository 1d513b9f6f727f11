package main

import (
	"context"

	"github.com/spf13/cobra"

	"serve/models"
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

// bundleOptions are the flags of both.
type bundleOptions struct {
	key  string // a file
	json bool
}

func newBundleExportCommand(w *cli) *cobra.Command {
	var o bundleOptions
	cmd := &cobra.Command{
		Use:   "export MODEL... FILE",
		Short: "export models to a bundle",
		Args:  arguments(2, -1, "at least one model, and the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			last := len(args) - 1
			return runBundleExport(cmd.Context(), w, o, args[:last], args[last])
		},
	}

	f := flagsOf(cmd)
	f.Text(&o.key, "sign-key", "", "PEM `file` of the Ed25519 private key to sign with")
	f.JSON(&o.json)
	return cmd
}

func newBundleImportCommand(w *cli) *cobra.Command {
	var o bundleOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "import models from a bundle",
		Long:  "import verifies the whole bundle before it adds any model to the cache.",
		Args:  arguments(1, 1, "the file to read"),
		RunE:  func(cmd *cobra.Command, args []string) error { return runBundleImport(cmd.Context(), w, o, args[0]) },
	}

	f := flagsOf(cmd)
	f.Text(&o.key, "verify-key", "", "PEM `file` of the Ed25519 public key to verify the signature with")
	w.rules.Declare(f)
	f.JSON(&o.json)
	return cmd
}

func runBundleExport(ctx context.Context, w *cli, o bundleOptions, names []string, file string) error {
	key, err := models.ReadPrivateKey(o.key)
	if err != nil {
		return usagef("--sign-key: %w", err)
	}
	lib, err := w.library()
	if err != nil {
		return err
	}

	var locals []*models.Local
	list := []models.Info{}
	for _, name := range names {
		local, err := lib.Find(name)
		if err != nil {
			return err
		}
		locals = append(locals, local)
		list = append(list, local.Info())
	}
	if err := lib.Store.ExportBundle(ctx, file, locals, key); err != nil {
		return err
	}

	if o.json {
		return w.t.PrintJSON(list)
	}
	signed := ""
	if key != nil {
		signed = ", signed"
	}
	w.t.Fact("written", "%s: %d models%s", file, len(locals), signed)
	return nil
}

func runBundleImport(ctx context.Context, w *cli, o bundleOptions, file string) error {
	key, err := models.ReadPublicKey(o.key)
	if err != nil {
		return usagef("--verify-key: %w", err)
	}
	lib, err := w.library()
	if err != nil {
		return err
	}

	imported, signed, err := lib.Store.ImportBundle(ctx, file, key)
	if err != nil {
		return err
	}
	if signed && key == nil {
		w.t.Note("the bundle is signed, but its signature was not checked; --verify-key checks it")
	}

	if o.json {
		return w.t.PrintJSON(imported)
	}
	for _, m := range imported {
		w.t.Fact("imported", "%s: %s at %.12s, license %s", m.Name, m.Listing.Repo, m.Listing.Commit, m.Listing.License)
	}
	return nil
}
