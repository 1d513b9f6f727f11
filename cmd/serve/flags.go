package main

import (
	"github.com/spf13/cobra"

	"serve/flagset"
	"serve/loader"
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

// parseReserve reads the value of --memory-reserve, a size.
func parseReserve(text string) (loader.Reserve, error) {
	n, err := flagset.ParseSize(text)
	return loader.Reserve{Given: true, Bytes: n}, err
}

func formatReserve(r loader.Reserve) string {
	if !r.Given {
		return "1GiB"
	}
	return flagset.FormatSize(r.Bytes)
}

// parseCache reads the value of --prefix-cache-memory, a size or auto.
func parseCache(text string) (loader.CacheSize, error) {
	if text == "auto" {
		return loader.CacheSize{}, nil
	}
	size, err := parseReserve(text)
	return loader.CacheSize(size), err
}

func formatCache(s loader.CacheSize) string {
	if !s.Given {
		return "auto"
	}
	return flagset.FormatSize(s.Bytes)
}
