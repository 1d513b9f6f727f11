package main

import (
	"os"

	"github.com/spf13/cobra"

	"serve/loader"
)

// hardware is the hardware that engines use. Tests replace it to simulate drivers.
var hardware = loader.Native()

// newEngineCommand is the command that serve runs for each model: the same program, as a child
// process that computes. Two sockets are its only connections. With a flag, it examines the machine
// and exits.
func newEngineCommand(w *cli) *cobra.Command {
	var sandbox, egress, timing, devices, probe, text, offers bool
	var checked, workers string
	var first int
	cmd := &cobra.Command{
		Use:    loader.EngineCommand,
		Short:  "run a model for the serve process that started this one",
		Hidden: true,
		Args:   arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			switch {
			case sandbox:
				return loader.WriteSandbox(os.Stdin, w.t.Out)
			case egress:
				return loader.WriteEgress(hardware, os.Stdin, w.t.Out)
			case devices:
				return loader.WriteDevices(hardware, w.t.Out, workers)
			case offers:
				return loader.ServeRPC(os.Stdin)
			case probe:
				return loader.WriteProbe(hardware, w.t.Out)
			case timing:
				return loader.WriteTimings(hardware, os.Stdin, w.t.Out)
			case checked != "":
				return loader.WriteKernelChecks(hardware, w.t.Out, checked, first)
			}
			if text {
				return loader.ServeText()
			}
			return loader.ServeEngine(hardware)
		},
	}

	f := cmd.Flags()
	f.BoolVar(&timing, loader.FlagTimeKernels, false, "time the CPU's kernels as the request on stdin says, and exit")
	f.BoolVar(&text, loader.FlagText, false, "tokenize and render for a model that another such process computes")
	f.BoolVar(&sandbox, loader.FlagSandbox, false, "try what the sandbox refuses, print what comes of it, and exit")
	f.BoolVar(&egress, loader.FlagEgress, false, "try what --offline refuses, print what comes of it, and exit")
	f.BoolVar(&devices, loader.FlagDevices, false, "print the devices that drivers show to this process, and exit")
	f.StringVar(&workers, loader.FlagRPC, "", "with --devices: the workers whose connections this process is handed")
	f.BoolVar(&offers, loader.FlagRPCWorker, false, "offer devices to the client of a connection that is handed")
	f.BoolVar(&probe, loader.FlagProbe, false, "compute on each device, print the results, and exit")
	f.StringVar(&checked, loader.FlagCheckKernels, "",
		"compute with each of the kernels named, print the results, and exit")
	f.IntVar(&first, loader.FlagFirstKernel, 0, "with --check-kernels: how many of them to skip")
	return cmd
}
