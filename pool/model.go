// Package pool keeps models in memory: who uses which, what is loaded, and what is unloaded
// to make room. It reads no file and computes nothing; a LoadFunc does.
package pool

import (
	"context"
	"errors"
	"time"

	"serve/engine"
	"serve/kernels"
)

// Engine is what computes a model: *engine.Engine, in this process, or another thing that
// behaves like it. The pool itself only asks for its Stats.
type Engine interface {
	Model() *engine.Model
	Limits() engine.Limits
	Admits(context.Context, engine.Caller) error
	Tokenize(text string, special bool, limit int) ([]engine.Token, error)
	Prompt(ctx context.Context, parts []engine.Part, limit int) ([]engine.Token, []*engine.Media, error)
	Render(engine.Chat) (*engine.Rendered, error)
	Generate(context.Context, engine.Request) (*engine.Stream, error)
	Embed(context.Context, engine.Caller, [][]engine.Token) ([][]float32, error)
	Rank(
		ctx context.Context,
		by engine.Caller,
		query string,
		documents []string,
	) (scores []float32, tokens int, err error)
	Stats() engine.Stats
}

// Model is a model that can be asked for, in memory or not.
type Model struct {
	ID      string   // the name that requests give
	Aliases []string // other names for it
	Created time.Time
	Load    LoadFunc
}

// LoadFunc brings a model into memory. Only one runs at a time. Where memory is
// short it returns a NoRoomError, and may be called again when some is free; with
// shrink it makes do with what is free: fewer KV cells than would be best.
type LoadFunc func(ctx context.Context, shrink bool) (*Instance, error)

// Instance is a model in memory.
type Instance struct {
	Engine Engine
	Bytes  uint64          // that it takes once it answers, as it was planned
	Later  uint64          // that it may take besides, when embeddings are first asked for
	Done   <-chan struct{} // closed when the engine has ended and its memory is free
	Stop   func()          // ends the engine; Done tells when it has
	// Kernels are the processor's kernels that it computes with.
	Kernels kernels.Choice
	// Process says what computes the model, if that is a process of its own; else nil.
	Process func() Process
	// Failed says why the engine cannot go on, if it cannot; nil for one that never fails so.
	Failed func() error

	// Devices are those that compute the model.
	Devices []Device
	// WhyProcessor says why the machine's GPUs do not, empty if they do or there are none.
	WhyProcessor string

	// Memory says what it takes of each device; nil if that is not known.
	Memory func() []DeviceMemory
}

// Device is a GPU, or the processor.
type Device struct {
	Name        string `json:"name"` // CUDA0, CPU
	Description string `json:"description"`
}

// DeviceMemory is what a model was planned to take of a device, and takes, in bytes.
type DeviceMemory struct {
	Device  string `json:"device"`
	Planned uint64 `json:"planned_bytes"`
	Later   uint64 `json:"later_bytes"` // may come besides, when embeddings are first asked for
	Taken   uint64 `json:"taken_bytes"` // of the host now, of a card at the load; 0 if unknown
}

// Process is one of the system's.
type Process struct {
	ID       int    // 0 while there is none
	Resident uint64 // bytes of memory that it takes, of mapped files too; 0 if unknown
}

// NoRoomError says that a model needs more memory than there is.
type NoRoomError struct {
	Err   error
	Short uint64 // bytes that are missing
}

// Error implements error.
func (e *NoRoomError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *NoRoomError) Unwrap() error { return e.Err }

// DeviceError says that a GPU which is there, or was, cannot be used. A model is then
// computed by nothing else instead. Its text may be read by clients.
type DeviceError struct{ Err error }

// Error implements error.
func (e *DeviceError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *DeviceError) Unwrap() error { return e.Err }

// DeviceRetry is after how long a model is loaded again whose device was missing: a driver
// that is reloaded takes seconds, and each try takes one.
const DeviceRetry = 30 * time.Second

// Why a request gets no model, besides what loading it returns.
var (
	ErrLoading  = errors.New("the model is being loaded")
	ErrNoMemory = errors.New("there is no memory for the model while others answer")
	ErrLoad     = errors.New("the model cannot be loaded")
)
