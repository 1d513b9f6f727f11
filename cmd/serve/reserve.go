package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"serve/engine/llama"
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
	n, err := parseSize(text)
	if err != nil {
		return err
	}
	r.Given, r.Bytes = true, n
	return nil
}

// Type names the kind of value in the help.
func (r *memoryReserve) Type() string { return "size" }

// sizeUnits are the names of units, as powers of two; a bare letter is a power of two as well.
var sizeUnits = map[string]uint{
	"": 0, "b": 0, "k": 10, "kib": 10, "m": 20, "mib": 20, "g": 30, "gib": 30, "t": 40, "tib": 40,
}

// parseSize reads a number of bytes: 512MiB, 1.5GiB, 2G.
func parseSize(text string) (uint64, error) {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	shift, known := sizeUnits[strings.ToLower(text[len(number):])]
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !known || !(n >= 0) {
		return 0, fmt.Errorf("%q is no size: like 512MiB or 2GiB", text)
	}
	bytes := n * float64(uint64(1)<<shift)
	if bytes > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is more than any machine has", text)
	}
	return uint64(bytes), nil
}
