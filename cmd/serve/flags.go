package main

import (
	"github.com/spf13/cobra"

	"serve/flagset"
)

// Of several commands.
const (
	defaultHost = "127.0.0.1"
	defaultPort = 8080
)

// flagsOf declares flags of a command.
func flagsOf(cmd *cobra.Command) flagset.Set { return flagset.Of(cmd.Flags()) }

func port(f flagset.Set, p *int, usage string) {
	flagset.Number(f, p, "port", defaultPort, flagset.Within(0, 65535), usage)
}
