package main

import (
	"github.com/spf13/cobra"

	"serve/provenance"
)

func newVerifyCommand(w *cli) *cobra.Command {
	var o provenance.VerifyOptions
	cmd := w.provenanceCommand(&cobra.Command{
		Use:   "verify [MODEL...]",
		Short: "check the hashes and signatures of models on this machine",
		Long: `verify reads every byte of the named models, or of all models on this machine,
compares their hashes with those that the Hub has published, and checks their
headers.

With --oms it also verifies signatures (OpenSSF Model Signing), and takes folders
and files of other kinds of models. Every file that serve would load must be
signed; in a folder, every file.`,
		Example: "  serve verify\n  serve verify --oms mistral-7b --public-key team.pem\n" +
			"  serve verify --oms ./model --cert-chain vendor-ca.pem --identity https://example.com/models",
		ValidArgsFunction: w.completeLocal,
	}, func(cmd *cobra.Command, c *provenance.Provenance, args []string) error {
		return c.Verify(cmd.Context(), o, args)
	})
	o.Declare(flagsOf(cmd))
	return cmd
}

func newSignCommand(w *cli) *cobra.Command {
	var o provenance.SignOptions
	cmd := w.provenanceCommand(&cobra.Command{
		Use:   "sign MODEL|FOLDER|FILE",
		Short: "sign a model, so that serve verify and policies can tell who has examined it",
		Long: `sign hashes a model's files and signs the list (OpenSSF Model Signing):

  openssl ecparam -name prime256v1 -genkey -noout -out key.pem
  openssl pkey -in key.pem -pubout -out public.pem`,
		Example: "  serve sign mistral-7b --key key.pem\n" +
			"  serve sign ./folder --key key.pem --cert-chain chain.pem",
		Args:              arguments(1, 1, "a model, a folder or a file"),
		ValidArgsFunction: w.completeLocal,
	}, func(cmd *cobra.Command, c *provenance.Provenance, args []string) error {
		return c.Sign(cmd.Context(), o, args[0])
	})
	o.Declare(flagsOf(cmd))
	return cmd
}

func newLicensesCommand(w *cli) *cobra.Command {
	return w.provenanceCommand(&cobra.Command{
		Use:   "licenses",
		Short: "list the licenses of models that were accepted, by whom and when",
		Args:  arguments(0, 0, "no arguments"),
	}, func(_ *cobra.Command, c *provenance.Provenance, _ []string) error { return c.Licenses() })
}

func newSBOMCommand(w *cli) *cobra.Command {
	cmd := w.provenanceCommand(&cobra.Command{
		Use:   "sbom [MODEL]",
		Short: "print the bill of materials of this program, or of a model, as CycloneDX",
		Long: `sbom prints what this program is made of, from the program itself: Go's modules,
llama.cpp, the packages of the web UI, each with its version and hash. With a MODEL,
it prints that model's files, license, origin and quantization.`,
		Args:              arguments(0, 1, "at most one model"),
		ValidArgsFunction: w.completeLocal,
	}, func(cmd *cobra.Command, c *provenance.Provenance, args []string) error {
		return c.SBOM(cmd.Context(), versionText(), args)
	})
	cmd.Flags().Lookup("json").Hidden = true // it is always JSON
	return cmd
}

// provenanceCommand completes a command about what models are.
func (w *cli) provenanceCommand(
	cmd *cobra.Command, run func(*cobra.Command, *provenance.Provenance, []string) error,
) *cobra.Command {
	var asJSON bool
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		lib, err := w.library()
		if err != nil {
			return err
		}
		return run(cmd, &provenance.Provenance{Library: lib, Terminal: w.t, JSON: asJSON}, args)
	}
	flagsOf(cmd).JSON(&asJSON)
	return cmd
}
