package main

import (
	"strconv"

	"serve/engine/llama"
	"serve/machine"
)

// defaultReserve is what a plan leaves free of each device: for other programs, for what drivers
// and allocators take beside what they are asked for, and for the error of the plan. llama.cpp
// leaves as much to a card.
const defaultReserve = 1 << 30

// smallDevice is the part of a device that stays free at most, unless a size was asked for: on a
// machine of 2 GiB a whole one would leave nothing to serve with.
const smallDevice = 8

// memoryReserve is the value of --memory-reserve; the zero value is the default.
type memoryReserve struct {
	Given bool
	Bytes uint64
}

// of is what stays free of a device.
func (r memoryReserve) of(d llama.DeviceMemory) uint64 {
	switch {
	case r.Given:
		return r.Bytes
	case d.Total > 0:
		return min(defaultReserve, d.Total/smallDevice)
	}
	return defaultReserve
}

// String implements pflag.Value, as do the methods after it.
func (r *memoryReserve) String() string {
	if !r.Given {
		return "1GiB"
	}
	return strconv.FormatUint(r.Bytes, 10)
}

// Set reads a size.
func (r *memoryReserve) Set(text string) error {
	n, err := machine.ParseSize(text)
	if err != nil {
		return err
	}
	r.Given, r.Bytes = true, n
	return nil
}

// Type names the kind of value in the help.
func (r *memoryReserve) Type() string { return "size" }
