package main

import (
	"errors"
	"strconv"

	"serve/loader"
	"serve/machine"
)

// layersFlag is the value of --gpu-layers: a number, or auto.
type layersFlag loader.Layers

// String implements pflag.Value, as do the methods after it.
func (l *layersFlag) String() string {
	if !l.Given {
		return "auto"
	}
	return strconv.Itoa(l.N)
}

// Set reads a number of layers.
func (l *layersFlag) Set(text string) error {
	if text == "auto" {
		*l = layersFlag{}
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
func (l *layersFlag) Type() string { return "layers" }

// reserveFlag is the value of --memory-reserve, a size.
type reserveFlag loader.Reserve

// String implements pflag.Value, as do the methods after it.
func (r *reserveFlag) String() string {
	if !r.Given {
		return "1GiB"
	}
	return strconv.FormatUint(r.Bytes, 10)
}

// Set reads a size.
func (r *reserveFlag) Set(text string) error {
	n, err := machine.ParseSize(text)
	if err != nil {
		return err
	}
	r.Given = true
	r.Bytes = n
	return nil
}

// Type names the kind of value in the help.
func (r *reserveFlag) Type() string { return "size" }
