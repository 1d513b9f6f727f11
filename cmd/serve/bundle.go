package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"serve/models"
)

func newBundleCommand(w *workplace) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "carry models over an air gap",
		Long: `A bundle is one tar file with the files of models, their hashes, licences and
revisions. It may be signed with an Ed25519 key:

  openssl genpkey -algorithm ed25519 -out key.pem
  openssl pkey -in key.pem -pubout -out public.pem`,
		Example: "  serve bundle export mistral-7b nomic-embed-text models.tar --sign-key key.pem\n  serve bundle import models.tar --verify-key public.pem",
		Args:    arguments(0, 0, "export or import"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBundleExportCommand(w), newBundleImportCommand(w))
	return cmd
}

func newBundleExportCommand(w *workplace) *cobra.Command {
	var signKey string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export MODEL... FILE",
		Short: "write models to one file",
		Args:  arguments(2, -1, "at least one model, and the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBundleExport(cmd.Context(), w, signKey, asJSON, args[:len(args)-1], args[len(args)-1])
		},
	}
	cmd.Flags().StringVar(&signKey, "sign-key", "", "PEM file of the Ed25519 private key to sign with")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newBundleImportCommand(w *workplace) *cobra.Command {
	var verifyKey string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "read models from a file that export wrote",
		Long:  "import verifies everything in the file before anything becomes visible.",
		Args:  arguments(1, 1, "the file to read"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBundleImport(cmd.Context(), w, verifyKey, asJSON, args[0])
		},
	}
	cmd.Flags().StringVar(&verifyKey, "verify-key", "", "PEM file of the Ed25519 public key that must have signed it")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func runBundleExport(ctx context.Context, w *workplace, signKey string, asJSON bool, names []string, file string) error {
	key, err := privateKey(signKey)
	if err != nil {
		return err
	}
	store, err := w.store()
	if err != nil {
		return err
	}
	var locals []*models.Local
	list := []modelInfo{}
	for _, name := range names {
		local, err := w.find(store, name)
		if err != nil {
			return err
		}
		locals = append(locals, local)
		list = append(list, info(local))
	}
	if err := store.ExportBundle(ctx, file, locals, key); err != nil {
		return err
	}
	if asJSON {
		return w.t.printJSON(list)
	}
	w.t.fact("written", "%s: %d models%s", file, len(locals), map[bool]string{true: ", signed", false: ""}[key != nil])
	return nil
}

func runBundleImport(ctx context.Context, w *workplace, verifyKey string, asJSON bool, file string) error {
	key, err := publicKey(verifyKey)
	if err != nil {
		return err
	}
	store, err := w.store()
	if err != nil {
		return err
	}
	imported, signed, err := store.ImportBundle(ctx, file, key)
	if err != nil {
		return err
	}
	if signed && key == nil {
		w.t.note("the bundle is signed; nobody asked by whom: --verify-key does")
	}
	if asJSON {
		return w.t.printJSON(imported)
	}
	for _, m := range imported {
		w.t.fact("imported", "%s: %s at %.12s, licence %s", m.Name, m.Listing.Repo, m.Listing.Commit, m.Listing.License)
	}
	return nil
}

// readKey parses the one PEM block of a file; nil when there is no file.
func readKey(name string, parse func([]byte) (any, error)) (any, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%w: read key: %w", errUsage, err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%w: %s holds no PEM", errUsage, name)
	}
	key, err := parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: read key %s: %w", errUsage, name, err)
	}
	return key, nil
}

func privateKey(name string) (ed25519.PrivateKey, error) {
	key, err := readKey(name, x509.ParsePKCS8PrivateKey)
	if key == nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s holds no Ed25519 private key", errUsage, name)
	}
	return private, nil
}

func publicKey(name string) (ed25519.PublicKey, error) {
	key, err := readKey(name, x509.ParsePKIXPublicKey)
	if key == nil {
		return nil, err
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s holds no Ed25519 public key", errUsage, name)
	}
	return public, nil
}
