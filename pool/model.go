// Package pool manages the models in memory: it leases them to requests, loads them on demand and
// unloads unused ones to make room. The loading itself is up to a LoadFunc.
package pool

import (
	"context"
	"errors"
	"time"

	"serve/engine"
	"serve/kernels"
)

var _ Engine = (*engine.Engine)(nil)

// Engine is the interface of a loaded model. The pool itself only uses Stats and Forget.
type Engine interface {
	Model() *engine.ModelInfo
	Limits() engine.Limits
	LongestPiece() int
	Admits(context.Context, engine.Caller) error
	Tokenize(
		ctx context.Context, by engine.Caller, text string, how engine.Reading, limit int,
	) ([]engine.Token, error)
	Prompt(
		ctx context.Context,
		by engine.Caller,
		parts []engine.Part,
		limit int,
	) ([]engine.Token, []*engine.Media, error)
	Render(ctx context.Context, by engine.Caller, c engine.Chat) (*engine.Rendered, error)
	Generate(context.Context, engine.Request) (*engine.Stream, error)
	Embed(context.Context, engine.Caller, [][]engine.Token) ([][]float32, error)
	RankInputs(ctx context.Context, by engine.Caller, query string, documents []string) ([][]engine.Token, error)
	Rank(context.Context, engine.Caller, [][]engine.Token) ([]float32, error)
	Stats() engine.Stats
	Waiting() map[string]int
	Forget(tenant string)
}

// Model is a model that can be loaded.
type Model struct {
	ID      string   // the name that requests give
	Aliases []string // other names for it
	Created time.Time
	Load    LoadFunc
}

// LoadFunc loads a model. Only one call runs at a time. If there is not enough memory it returns a
// NoRoomError, and may be called again later. With shrink it makes do with the memory that is free,
// for example by using fewer KV cells.
type LoadFunc func(ctx context.Context, shrink bool) (*Instance, error)

// Instance is a loaded model.
type Instance struct {
	Engine Engine
	Bytes  uint64          // memory planned for it
	Later  uint64          // additional memory that the first embedding and the prefix cache may need
	Done   <-chan struct{} // closed when the engine has ended and its memory is free
	Stop   func()          // stops the engine; Done is closed afterwards
	// Kernels are the CPU kernels that it uses.
	Kernels kernels.Choice
	// Process returns the engine's process; nil if the engine runs in this process.
	Process func() ProcessUse
	// Failed returns why the engine has failed, if it has; may be nil.
	Failed func() error

	// Devices returns the devices that the model runs on now, and why no GPU is among them: empty if one is, or there is
	// none. A restarted engine may run on others. It may be nil.
	Devices func() (list []DeviceInfo, whyProcessor string)

	// Memory returns the memory used on each device; nil if unknown.
	Memory func() []MemoryUse
}

// DeviceInfo is a GPU or the CPU.
type DeviceInfo struct {
	Name        string `json:"name"` // CUDA0, CPU
	Description string `json:"description"`
}

// MemoryUse is the planned and actual memory of a model on one device, in bytes.
type MemoryUse struct {
	Device  string `json:"device"`
	Planned uint64 `json:"planned_bytes"`
	Later   uint64 `json:"later_bytes"` // additional memory that the first embedding and the prefix cache may need
	Taken   uint64 `json:"taken_bytes"` // current for the host, at loading time for a GPU; 0 if unknown
}

// ProcessUse is an operating system process.
type ProcessUse struct {
	ID       int    // 0 if there is none
	Resident uint64 // resident memory in bytes, including mapped files; 0 if unknown
}

// NoRoomError means that a model needs more memory than is free.
type NoRoomError struct {
	Err   error
	Short uint64 // bytes that are missing
}

// Error implements error.
func (e *NoRoomError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *NoRoomError) Unwrap() error { return e.Err }

// UnavailableError means that a GPU cannot be used. The model does not fall back to another device. The
// text is shown to clients.
type UnavailableError struct{ Err error }

// Error implements error.
func (e *UnavailableError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *UnavailableError) Unwrap() []error { return []error{engine.ErrDevice, e.Err} }

// DeviceRetry is the interval between attempts to load a model whose device is missing. Reloading a
// driver takes seconds, and an attempt takes about one.
const DeviceRetry = 30 * time.Second

// Errors of Acquire, besides those of loading.
var (
	ErrLoading  = errors.New("the model is being loaded")
	ErrNoMemory = errors.New("there is not enough memory while other models are answering")
	ErrLoad     = errors.New("the model cannot be loaded")
)
