package loader

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"serve/engine"
	"serve/engine/llama"
	"serve/engine/remote"
	"serve/models"
	"serve/models/testmodel"
	"serve/sandbox"
)

// hang is a variable that makes a process hang that lists devices.
const hang = "TEST_HANG"

// TestMain lets this binary be the engine's process, as serve is.
func TestMain(m *testing.M) {
	sandbox.Enter()
	if len(os.Args) > 1 && os.Args[1] == EngineCommand {
		if err := beEngine(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testHardware is this machine's, whose engines get the variables of tests.
func testHardware() *Hardware {
	h := Native()
	h.Variables = []string{"TEST_*"}
	return h
}

// beEngine does what the arguments say.
func beEngine(args []string) error {
	h := testHardware()
	check := h.CheckKernels
	h.CheckKernels = func(o llama.CheckOptions) error {
		begin := o.Begin
		o.Begin = func(i int, kernel string) error {
			err := begin(i, kernel)
			crashKernels(kernel)
			return err
		}
		return check(o)
	}

	f := flag.NewFlagSet("", flag.ContinueOnError)
	devices := f.Bool(FlagDevices, false, "")
	checked := f.String(FlagCheckKernels, "", "")
	first := f.Int(FlagFirstKernel, 0, "")
	text := f.Bool(FlagText, false, "")
	workers := f.String(FlagRPC, "", "")
	f.String(FlagLogLevel, "", "")
	if err := f.Parse(args); err != nil {
		return err
	}
	switch {
	case *devices:
		if os.Getenv(hang) != "" {
			select {}
		}
		return WriteDevices(h, os.Stdout, *workers)
	case *checked != "":
		return WriteKernelChecks(h, os.Stdout, *checked, *first)
	}
	if *text {
		return ServeText()
	}
	return ServeEngine(h)
}

// recorder is a Reporter and a log whose text can be read while it grows.
type recorder struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{}, 1)} }

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
	return r.buf.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func (r *recorder) Warn(format string, args ...any)  { fmt.Fprintf(r, "warning: "+format+"\n", args...) }
func (r *recorder) Error(format string, args ...any) { fmt.Fprintf(r, "error: "+format+"\n", args...) }
func (r *recorder) Hint(format string, args ...any)  { fmt.Fprintf(r, "hint: "+format+"\n", args...) }
func (r *recorder) Fact(label, format string, args ...any) {
	fmt.Fprintf(r, label+" "+format+"\n", args...)
}

// TestRestartWithoutMemory kills an engine whose memory somebody else has by then: the next is
// refused with numbers, and comes when there is room again, like the one before.
func TestRestartWithoutMemory(t *testing.T) {
	said := newRecorder()
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(said, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })

	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := testmodel.Write(path, testmodel.Options{ChatTemplate: testmodel.ChatML}); err != nil {
		t.Fatal(err)
	}
	header, err := models.ReadModel([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	l := New(Options{
		Model:    ModelOptions{Context: 256, Parallel: 8, KVType: "f16", Kernels: AutoKernels},
		Isolate:  true,
		Store:    &models.Store{Home: t.TempDir()},
		Hardware: testHardware(),
		Reporter: said,
		Environ:  os.Environ(),
		LogLevel: "info",
		Log:      said,
	})
	q := request{
		Name:         "tiny",
		Path:         path,
		Parts:        []string{path},
		Shape:        shape(header, "f16"),
		TrainContext: header.TrainContext(),
		Free:         l.hostFree(0),
		Options:      l.o.Model,
		Expect:       expectationOf(header, []string{path}),
	}
	files := &openedFiles{
		names: []string{path},
		check: func() error { return nil },
	}
	model, first, err := l.open(t.Context(), q, files, new(usage))
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	child := model.Runner.(*remote.Runner)
	before := child.Process()
	limits := child.Limits()

	free := l.free.Swap(hostShare(first.Memory) / 2)
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(said.String(), "could not be restarted") {
		<-said.more
	}
	if text := said.String(); !strings.Contains(text, "not enough memory: host needs") ||
		!strings.Contains(text, "KV cache") {
		t.Errorf("it does not say what is missing:\n%s", text)
	}

	l.free.Store(free)
	if tokens, err := child.Tokenize(t.Context(), "a", engine.Reading{}); err != nil || len(tokens) == 0 {
		t.Errorf("with memory again: %v, %v", tokens, err)
	}
	if now := child.Process(); now == before || now == 0 || child.Limits() != limits {
		t.Errorf("process %d after %d, limits %+v after %+v", now, before, child.Limits(), limits)
	}
	died := func(line string) bool { return strings.HasPrefix(line, "error: the engine of tiny died") }
	if !slices.ContainsFunc(strings.Split(said.String(), "\n"), died) {
		t.Errorf("it does not report the crash:\n%s", said)
	}
}
