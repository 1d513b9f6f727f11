package llama

// #include <stdbool.h>
// #include <stdint.h>
import "C"

import (
	"context"
	"log/slog"
	"runtime/cgo"
	"slices"
	"sync"
)

// ggml's log levels, as slog's. CONT never gets here: the shim joins lines.
var levels = map[C.int32_t]slog.Level{
	1: slog.LevelDebug,
	2: slog.LevelInfo,
	3: slog.LevelWarn,
	4: slog.LevelError,
}

// Warnings that are kept, and the bytes of each.
const (
	maxWarnings      = 16
	maxWarningLength = 400
)

// warnings are the first lines of the levels warning and error.
var warnings struct {
	sync.Mutex
	lines []string
}

// Warnings returns the first warnings and errors that llama.cpp logged in this process.
// Before a model is loaded they are its backends', which quote their drivers.
func Warnings() []string {
	warnings.Lock()
	defer warnings.Unlock()
	return slices.Clone(warnings.lines)
}

// keepWarning keeps a line for Warnings, if there are not too many.
func keepWarning(line string) {
	warnings.Lock()
	defer warnings.Unlock()
	if len(warnings.lines) < maxWarnings {
		warnings.lines = append(warnings.lines, line[:min(len(line), maxWarningLength)])
	}
}

// goServeLog hands a line of llama.cpp's log to slog at its own level.
//
//export goServeLog
func goServeLog(level C.int32_t, text *C.char) {
	l, ok := levels[level]
	if !ok {
		l = slog.LevelDebug
	}
	line := C.GoString(text)
	if l >= slog.LevelWarn {
		keepWarning(line)
	}
	slog.Log(context.Background(), l, line, "from", "llama.cpp")
}

//export goServeProgress
func goServeProgress(handle C.uintptr_t, progress C.float) C.bool {
	return C.bool(cgo.Handle(handle).Value().(func(float32) bool)(float32(progress)))
}
