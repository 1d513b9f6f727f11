package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"serve/engine/llama"
	"serve/machine"
	"serve/sandbox"
	"serve/worker"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	host string
	port int
	json bool

	kernels string // that are checked
}

func newDoctorCommand(w *workplace) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "look for what would keep serve from working well here",
		Long: `doctor looks at this machine's processor, GPUs, memory, limits, the cache, the port
and how engines can be confined, and says what to do about what is wrong. It computes
with what models compute with on the processor, for each type of weights, and compares
the results with exact ones. It opens no connection. The exit code is 1 if something
would keep serve from working.`,
		Args: arguments(0, 0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), w, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.host, "host", "127.0.0.1", "address to listen on")
	f.IntVar(&o.port, "port", 8080, "port to listen on")
	f.StringVar(&o.kernels, "kernels", autoKernels, "kernels to compute with: auto for those that models use here, all, or a name")
	jsonFlag(cmd, &o.json)
	return cmd
}

// severity is how bad a finding is.
type severity string

const (
	fine    severity = "ok"
	warning severity = "warning" // serve works, but not as well as it could
	broken  severity = "error"   // serve does not work
)

// finding is what doctor has seen of one thing.
type finding struct {
	About    string   `json:"about"`
	Severity severity `json:"severity"`
	Seen     string   `json:"seen"`
	Do       string   `json:"do,omitempty"` // about it
}

func runDoctor(ctx context.Context, w *workplace, o doctorOptions) error {
	if o.kernels != allKernels {
		if err := checkKernels(o.kernels); err != nil {
			return err
		}
	}

	var list []finding
	for _, look := range []func(context.Context, doctorOptions) []finding{
		w.seeProcessor,
		w.seeKernels,
		w.seeResults,
		w.seeDevices,
		w.seeMemory,
		w.seeLimits,
		w.seeCache,
		w.seeHome,
		w.seePort,
		w.seeConfinement,
	} {
		list = append(list, look(ctx, o)...)
	}
	bad := 0
	for _, f := range list {
		if f.Severity == broken {
			bad++
		}
	}
	if o.json {
		if err := w.t.printJSON(list); err != nil {
			return err
		}
	} else {
		rows := [][]string{}
		for _, f := range list {
			rows = append(rows, []string{string(f.Severity), f.About, f.Seen})
			if f.Do != "" {
				rows = append(rows, []string{"", "", "do: " + f.Do})
			}
		}
		if err := w.t.table(rows); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d things keep serve from working", bad, len(list))
	}
	return nil
}

// seeProcessor looks at what the engine computes with.
func (w *workplace) seeProcessor(context.Context, doctorOptions) []finding {
	f := finding{About: "processor", Severity: fine, Seen: fmt.Sprintf("%s, %d threads compute; %s", machine.ProcessorName(), llama.Threads(), llama.SystemInfo())}
	if runtime.GOARCH == "amd64" && !strings.Contains(f.Seen, "AVX2 = 1") {
		f.Severity, f.Do = warning, "prompts are read several times slower without AVX2; take another machine if there is one"
	}
	return []finding{f}
}

// seeKernels tells which kernels this processor can run, which of them failed, and what was measured.
func (w *workplace) seeKernels(context.Context, doctorOptions) []finding {
	store, err := w.store()
	if err != nil {
		return nil // seeCache says so
	}
	var runs, lacks []string
	for _, k := range llama.Kernels() {
		if k.Score > 0 {
			runs = append(runs, k.Name)
		} else {
			lacks = append(lacks, k.Name)
		}
	}
	if len(runs) == 0 {
		return []finding{{"kernels", broken, "this processor can run none of those that this build has: " + strings.Join(lacks, ", "),
			"build serve on this machine: make NATIVE=1"}}
	}
	f := finding{About: "kernels", Severity: fine, Seen: "this processor runs " + strings.Join(runs, ", ")}
	if len(lacks) > 0 {
		f.Seen += "; it lacks instructions for " + strings.Join(lacks, ", ")
	}
	list := []finding{f}

	record := w.kernelsRecord(store.Home, 0)
	refused := record.Refused()
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		why := refused[name]
		list = append(list, finding{"kernels", warning, fmt.Sprintf("%s is not used: %s, with %s, %s", name, why.Reason, why.Model, why.Time.Format(time.DateOnly)),
			"nothing, others are used; to try it again remove " + filepath.Join(store.Home, "kernels.json")})
	}
	for shape, timings := range record.All() {
		text := ""
		for _, t := range timings {
			text += fmt.Sprintf("; %s: %s", t.Kernels, speedText(t))
		}
		list = append(list, finding{About: "kernels", Severity: fine, Seen: "measured with " + shape + text})
	}
	return list
}

// A model of a billion parameters in four bits, and what it needs besides.
const leastMemory = 1 << 30

// seeMemory looks at what is free for models.
func (w *workplace) seeMemory(context.Context, doctorOptions) []finding {
	free := machine.FreeMemory()
	f := finding{About: "memory", Severity: fine, Seen: machine.FormatSize(free) + " free for models"}
	switch {
	case free == 0:
		f.Seen = "how much is free is not known on this system"
	case free < leastMemory:
		f.Severity, f.Do = warning, "that is room for the smallest models only: end other programs, or raise the control group's limit"
	}
	return []finding{f}
}

// seeCache looks at where models are kept.
func (w *workplace) seeCache(context.Context, doctorOptions) []finding {
	store, err := w.store()
	if err != nil {
		return []finding{{"cache", broken, err.Error(), "correct the variable of the environment or the flag that it names"}}
	}
	folder := store.Hub.Dir
	f := finding{About: "cache", Severity: fine, Seen: folder}
	if err := writable(folder); err != nil {
		f.Severity, f.Do = broken, "make the folder writable, or name another as HF_HUB_CACHE"
		f.Seen = err.Error()
		return []finding{f}
	}
	if free, ok := freeDisk(folder); ok {
		f.Seen += ", " + machine.FormatSize(free) + " free"
		if free < 5<<30 {
			f.Severity, f.Do = warning, "a model of 7 billion parameters takes 4 GiB and more: serve rm removes models, HF_HUB_CACHE names another disk"
		}
	}
	locals, err := store.List()
	if err != nil {
		return []finding{f, {"models", warning, err.Error(), "serve verify says which files are damaged"}}
	}
	return []finding{f, {About: "models", Severity: fine, Seen: fmt.Sprintf("%d are here; serve list shows them", len(locals))}}
}

// seeHome looks at serve's own folder, and at what its engines died of.
func (w *workplace) seeHome(context.Context, doctorOptions) []finding {
	store, err := w.store()
	if err != nil {
		return nil // seeCache says so
	}
	f := finding{About: "home", Severity: fine, Seen: store.Home}
	if err := writable(store.Home); err != nil {
		return []finding{{"home", broken, err.Error(), "make the folder writable, or name another as SERVE_HOME"}}
	}
	reports, _ := os.ReadDir(filepath.Join(store.Home, "crashes"))
	recent := slices.DeleteFunc(reports, func(e os.DirEntry) bool {
		info, err := e.Info()
		return err != nil || time.Since(info.ModTime()) > 7*24*time.Hour
	})
	if len(recent) > 0 {
		last := filepath.Join(store.Home, "crashes", recent[len(recent)-1].Name())
		return []finding{f, {"crashes", warning, fmt.Sprintf("an engine died %d times in the last week; the last: %s", len(recent), last),
			"the report says how; it has no text of anyone, so that it can be shown to others"}}
	}
	return []finding{f, {About: "crashes", Severity: fine, Seen: "no engine died in the last week"}}
}

// writable makes a folder if it is not there, and a file in it, which it takes away.
func writable(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(folder, ".doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// seePort looks whether the address is free, and who has it.
func (w *workplace) seePort(ctx context.Context, o doctorOptions) []finding {
	address := net.JoinHostPort(o.host, strconv.Itoa(o.port))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err == nil {
		listener.Close()
		return []finding{{About: "port", Severity: fine, Seen: address + " is free"}}
	}
	f := finding{About: "port", Severity: broken, Seen: err.Error(), Do: "choose another --port, or 0 for any free one"}
	if store, err := w.store(); err == nil {
		running, _ := instances(store.Home)
		for _, in := range running {
			if strings.HasSuffix(in.URL, ":"+strconv.Itoa(o.port)) {
				f.Severity, f.Seen, f.Do = fine, fmt.Sprintf("%s: a serve listens there, process %d", address, in.PID), ""
			}
		}
	}
	return []finding{f}
}

// checkup is what a confined process says of itself.
type checkup struct {
	Network string // why it can open sockets; empty if it cannot
}

// seeConfinement starts a process as engines are, and asks what it is kept from.
func (w *workplace) seeConfinement(ctx context.Context, _ doctorOptions) []finding {
	store, err := w.store()
	if err != nil {
		return nil // seeCache says so
	}
	cache, uncached := driverCache(store.Home)
	cmd, err := engineCommand(cache, "--check")
	if err != nil {
		return []finding{{"engines", broken, err.Error(), "start serve from a file that can be found again"}}
	}

	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var unconfined error
	out, _, err := worker.Output(ctx, cmd, func() (err error) {
		unconfined, err = sandbox.Start(cmd, sandbox.Rules{Cache: cache})
		return err
	})
	var said checkup
	if err == nil {
		err = json.Unmarshal(out, &said)
	}
	if err != nil {
		return []finding{{"engines", broken, fmt.Sprintf("an engine's process cannot be started: %v", err), "start serve with --isolate=false, and tell us"}}
	}

	writes := "nothing"
	if cache != "" {
		writes = "nothing but what drivers keep in " + cache
	}
	list := []finding{
		{About: "network", Severity: fine, Seen: "engines cannot open a connection"},
		{About: "files", Severity: fine, Seen: "engines read their model and the system's files, and write " + writes},
	}
	if said.Network != "" {
		list[0] = finding{"network", warning, "engines are not kept from the network: " + said.Network, "a kernel with seccomp does that"}
	}
	if unconfined != nil {
		list[1] = finding{"files", warning, "engines are not kept from files: " + unconfined.Error(), "a kernel with Landlock (5.13 and later) does that"}
	}
	if uncached != nil {
		list = append(list, finding{"driver cache", warning, uncached.Error(), "make SERVE_HOME writable: without the folder, GPU drivers compile anew at every start"})
	}
	return list
}
