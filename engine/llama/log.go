package llama

// #include <stdbool.h>
// #include <stdint.h>
import "C"

import (
	"context"
	"log/slog"
	"runtime/cgo"
)

// ggml's log levels, as slog's. CONT never gets here: the shim joins lines.
var levels = map[C.int32_t]slog.Level{
	1: slog.LevelDebug,
	2: slog.LevelInfo,
	3: slog.LevelWarn,
	4: slog.LevelError,
}

// goServeLog hands a line of llama.cpp's log to slog at its own level.
//
//export goServeLog
func goServeLog(level C.int32_t, text *C.char) {
	l, ok := levels[level]
	if !ok {
		l = slog.LevelDebug
	}
	slog.Log(context.Background(), l, C.GoString(text), "from", "llama.cpp")
}

//export goServeProgress
func goServeProgress(handle C.uintptr_t, progress C.float) C.bool {
	return C.bool(cgo.Handle(handle).Value().(func(float32) bool)(float32(progress)))
}
