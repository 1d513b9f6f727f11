package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"serve/doctor"
	"serve/egress"
	"serve/loader"
	"serve/registry"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	host    string
	port    int
	kernels string // to check
	json    bool
}

func newDoctorCommand(w *cli) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "check this machine for problems",
		Long: `doctor checks the CPU, GPUs, memory, limits, model cache, port and engine sandbox,
and says what to do about each problem. It runs the CPU kernels that models use, for
each quantization type, and compares the results with exact ones. It opens no network
connections. The exit code is 1 if a problem prevents serve from working.

With --egress it tries to reach sockets of its own from a server with --offline and from
that one's engine, in every way, and prints what the kernel answers.`,
		Annotations: map[string]string{needs: egress.Listens},
		Args:        arguments(0, 0, "no arguments"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), w, o) },
	}

	f := flagsOf(cmd)
	f.Text(&o.host, "host", defaultHost, "`address` that serve would listen on")
	port(f, &o.port, "port that serve would listen on")
	f.Checked(&o.kernels, "kernels", loader.AutoKernels, validKernelCheck,
		"CPU kernels to check: auto for those in use, all, or a `name`")
	f.Toggle(&w.proving, "egress", false, "check only that nothing leaves this machine under --offline")
	f.JSON(&o.json)
	return cmd
}

// validKernelCheck refuses kernels that cannot be checked.
func validKernelCheck(name string) error {
	if name == doctor.AllKernels {
		return nil
	}
	return loader.ValidKernels(name)
}

func runDoctor(ctx context.Context, w *cli, o doctorOptions) error {
	store, err := w.store()
	examine := doctor.Examine
	if w.proving {
		examine = doctor.Egress
	}
	list := examine(ctx, doctor.Options{
		Host:     o.host,
		Port:     o.port,
		Kernels:  o.kernels,
		Store:    store,
		NoStore:  err,
		Hardware: hardware,
		Environ:  os.Environ(),
		Owner:    w.ownerOf,
	})
	if o.json {
		err = w.t.PrintJSON(list)
	} else {
		err = w.t.Table(doctor.Table(list))
	}
	return errors.Join(err, doctor.Failed(list))
}

// ownerOf returns the process ID of the server that listens on a port.
func (w *cli) ownerOf(port int) (pid int, found bool) {
	running, _ := w.servers()
	return registry.Owner(running, port)
}
