package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/guides/flags.md anew")

// TestFlagsGuide compares docs/guides/flags.md with the flags that there are.
func TestFlagsGuide(t *testing.T) {
	const path = "../../docs/guides/flags.md"
	var b strings.Builder
	b.WriteString(`# Flags and environment

Every flag is an environment variable, too: ` + "`--ctx-size` is `SERVE_CTX_SIZE`" + `. What is written in the command counts before
what is in the environment. There is no configuration file. This page is written by a test:
` + "`go test ./cmd/serve -run TestFlagsGuide -update`" + `.

Variables of others that serve heeds: ` + "`HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`,\n`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, `NO_COLOR`" + `, and of ` + "`serve chat` and `serve bench`, `OPENAI_API_KEY`" + `.
` + "`SERVE_HOME` names the folder of what serve remembers.\n")
	root := newRootCommand(&workplace{t: &terminal{}})
	b.WriteString("\n## Of every command\n\n")
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
		t.Errorf("docs/guides/flags.md is not what the flags are; go test ./cmd/serve -run TestFlagsGuide -update writes it (%v)", err)
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
		fmt.Fprintf(b, "| `--%s` | `SERVE_%s` | %s | %s |\n", f.Name, strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")), def, strings.ReplaceAll(f.Usage, "|", "\\|"))
	})
}
