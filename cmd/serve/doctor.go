package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"serve/doctor"
	"serve/loader"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	host    string
	port    int
	kernels string // to check
	json    bool
}

func newDoctorCommand(w *workplace) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "check this machine for problems",
		Long: `doctor checks the CPU, GPUs, memory, limits, the model cache, the port and the
sandbox of engines, and says what to do about each problem. It computes with the
CPU code that models use, for each type of weights, and compares the results with
exact ones. It opens no network connection. The exit code is 1 if something keeps
serve from working.`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), w, o) },
	}

	f := cmd.Flags()
	f.StringVar(&o.host, "host", "127.0.0.1", "address to listen on")
	f.IntVar(&o.port, "port", 8080, "port to listen on")
	f.StringVar(&o.kernels, "kernels", loader.AutoKernels, "CPU kernels to check: auto for those in use, all, or a name")
	jsonFlag(cmd, &o.json)
	return cmd
}

func runDoctor(ctx context.Context, w *workplace, o doctorOptions) error {
	if o.kernels != doctor.AllKernels {
		if err := loader.ValidKernels(o.kernels); err != nil {
			return fmt.Errorf("%w: --kernels %q: %w", errUsage, o.kernels, err)
		}
	}

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

// ownerOf returns the process of a serve that listens on a port.
func (w *workplace) ownerOf(port int) (pid int, found bool) {
	store, err := w.store()
	if err != nil {
		return 0, false
	}
	running, _ := instances(store.Home)
	for _, in := range running {
		if strings.HasSuffix(in.URL, ":"+strconv.Itoa(port)) {
			return in.PID, true
		}
	}
	return 0, false
}

func (w *workplace) printFindings(list []doctor.Finding, asJSON bool) error {
	if asJSON {
		return w.t.printJSON(list)
	}

	rows := [][]string{}
	for _, f := range list {
		rows = append(rows, []string{string(f.Severity), f.About, f.Seen})
		if f.Do != "" {
			rows = append(rows, []string{"", "", "do: " + f.Do})
		}
	}
	return w.t.table(rows)
}
