package main

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"serve/flagset"
	"serve/loader"
	"serve/machine"
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

// layersValue is the value of --gpu-layers: a number, or auto.
type layersValue loader.Layers

// String implements pflag.Value, as do the methods after it.
func (l *layersValue) String() string {
	if !l.Given {
		return "auto"
	}
	return strconv.Itoa(l.N)
}

// Set reads a number of layers.
func (l *layersValue) Set(text string) error {
	if text == "auto" {
		*l = layersValue{}
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return errors.New("must be a number or auto")
	}
	l.Given = true
	l.N = n
	return nil
}

// Type names the kind of value in the help.
func (l *layersValue) Type() string { return "layers" }

// reserveValue is the value of --memory-reserve, a size.
type reserveValue loader.Reserve

// String implements pflag.Value, as do the methods after it.
func (r *reserveValue) String() string {
	if !r.Given {
		return "1GiB"
	}
	return strconv.FormatUint(r.Bytes, 10)
}

// Set reads a size.
func (r *reserveValue) Set(text string) error {
	n, err := machine.ParseSize(text)
	if err != nil {
		return err
	}
	r.Given = true
	r.Bytes = n
	return nil
}

// Type names the kind of value in the help.
func (r *reserveValue) Type() string { return "size" }
