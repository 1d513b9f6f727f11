package main

import (
	"fmt"
	"slices"
)

// measureKernels measures serve as it chooses its kernels beside serve with each of those named, and beside a binary
// that was built for this machine alone, if there is one.
func (o *options) measureKernels(model string, clients int) error {
	names := []string{"auto"}
	servers := []*process{o.startServe(model, clients)}
	for _, kernels := range o.kernels {
		names = append(names, kernels)
		servers = append(servers, o.startServe(model, clients, "--kernels", kernels))
	}
	if o.native != "" {
		other := *o
		other.serve = o.native
		names = append(names, "native build")
		servers = append(servers, other.startServe(model, clients))
	}
	defer stopAll(servers)
	if err := firstError(servers); err != nil {
		return err
	}

	rates, _, err := takeTurns(o.loops(servers, clients), o.runs)
	if err != nil {
		return err
	}

	medians := make([]float64, len(servers))
	for i := range rates {
		medians[i] = median(rates[i])
	}
	fastest := slices.Max(medians)
	for i, name := range names {
		fmt.Printf("%8d clients  %-14s %8.1f tokens/s   %.3f of the fastest\n", clients, name, medians[i], medians[i]/fastest)
	}
	return nil
}
