package main

import (
	"errors"
	"strconv"

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

// parseLayers reads the value of --gpu-layers: a number, or auto.
func parseLayers(text string) (loader.Layers, error) {
	if text == "auto" {
		return loader.Layers{}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return loader.Layers{}, errors.New("must be a number or auto")
	}
	return loader.Layers{Given: true, N: n}, nil
}

func formatLayers(l loader.Layers) string {
	if !l.Given {
		return "auto"
	}
	return strconv.Itoa(l.N)
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
