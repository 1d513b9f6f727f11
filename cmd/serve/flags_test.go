package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"serve/flagset"
	"serve/terminal"
)

var update = flag.Bool("update", false, "write docs/guides/flags.md anew")

// TestFlagsGuide compares docs/guides/flags.md with the flags that there are.
func TestFlagsGuide(t *testing.T) {
	const path = "../../docs/guides/flags.md"
	var b strings.Builder
	b.WriteString(`# Flags and environment

Every flag can also be set in the environment: ` +
		"`--ctx-size` as `SERVE_CTX_SIZE`" + `. Flags on the command line take
precedence. There is no configuration file. This page is generated from the flags:
` + "`go test ./cmd/serve -run TestFlagsGuide -update`" + `.

serve also reads these environment variables: ` +
		"`HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`,\n" +
		"`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, `NO_COLOR`" + `; ` +
		"`serve chat` and `serve bench` read `OPENAI_API_KEY`" + `.
` + "`SERVE_HOME` is the folder for serve's own data.\n")
	root := newRootCommand(&cli{t: &terminal.Terminal{}})
	b.WriteString("\n## Flags of every command\n\n")
	writeFlags(&b, root.PersistentFlags())
	for _, cmd := range append([]*cobra.Command{root}, root.Commands()...) {
		writeCommand(&b, cmd)
		if cmd != root {
			for _, sub := range cmd.Commands() {
				writeCommand(&b, sub)
			}
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != b.String() {
		t.Errorf(
			"docs/guides/flags.md is not what the flags are; go test ./cmd/serve -run TestFlagsGuide -update writes it (%v)",
			err,
		)
	}
}

func writeCommand(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden || !cmd.Runnable() || !cmd.LocalNonPersistentFlags().HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n", cmd.CommandPath(), strings.ToUpper(cmd.Short[:1])+cmd.Short[1:])
	writeFlags(b, cmd.LocalNonPersistentFlags())
}

func writeFlags(b *strings.Builder, flags *pflag.FlagSet) {
	b.WriteString("| flag | variable | default | |\n|---|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		def := f.DefValue
		if def == "" || def == "[]" {
			def = ""
		} else {
			def = "`" + def + "`"
		}
		_, usage := pflag.UnquoteUsage(f)
		usage = strings.ReplaceAll(usage, "|", "\\|")
		fmt.Fprintf(b, "| `--%s` | `%s` | %s | %s |\n", f.Name, flagset.Variable(f.Name), def, usage)
	})
}
