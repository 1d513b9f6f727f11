package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"serve/doctor"
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
connections. The exit code is 1 if a problem prevents serve from working.`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), w, o) },
	}

	f := flagsOf(cmd)
	f.Text(&o.host, "host", defaultHost, "`address` that serve would listen on")
	port(f, &o.port, "port that serve would listen on")
	f.Checked(&o.kernels, "kernels", loader.AutoKernels, validKernelCheck,
		"CPU kernels to check: auto for those in use, all, or a `name`")
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
	list := doctor.Examine(ctx, doctor.Options{
		Host:     o.host,
		Port:     o.port,
		Kernels:  o.kernels,
		Store:    store,
		NoStore:  err,
		Hardware: hardware,
		Environ:  os.Environ(),
		Owner:    w.ownerOf,
	})
	if err := w.printFindings(list, o.json); err != nil {
		return err
	}

	problems := 0
	for _, f := range list {
		if f.Severity == doctor.Broken {
			problems++
		}
	}
	if problems > 0 {
		return fmt.Errorf("%d of %d checks failed", problems, len(list))
	}
	return nil
}

// ownerOf returns the process ID of the server that listens on a port.
func (w *cli) ownerOf(port int) (pid int, found bool) {
	running, _ := w.servers()
	return registry.Owner(running, port)
}

func (w *cli) printFindings(list []doctor.Finding, asJSON bool) error {
	if asJSON {
		return w.t.PrintJSON(list)
	}

	rows := [][]string{}
	for _, f := range list {
		rows = append(rows, []string{string(f.Severity), f.About, f.Seen})
		if f.Do != "" {
			rows = append(rows, []string{"", "", "hint: " + f.Do})
		}
	}
	return w.t.Table(rows)
}
