// Package llama binds llama.cpp: it implements engine.Runner through a narrow C
// shim (shim.h). Build the library with make llama before anything here compiles.
//
// A Model may be used by many goroutines at once, a Context by one at a time.
package llama

// The flags that harden are build.sh's, which says what for.

// #cgo CPPFLAGS: -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -D_GLIBCXX_ASSERTIONS
// #cgo CXXFLAGS: -std=c++17 -O3 -fstack-protector-strong
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/cgo"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"serve/engine"
)

var initOnce sync.Once

// initialize registers the backends when llama.cpp is first used: not in init,
// so that a program that never loads a model never starts it.
func initialize() { initOnce.Do(func() { C.serve_init() }) }

// goError turns what a C call left into an error, and frees it. Nil when it left none.
func goError(e *C.serve_error) error {
	if e.code == C.SERVE_OK {
		return nil
	}
	message := goString(e.message)
	switch e.code {
	case C.SERVE_NO_SLOT:
		return fmt.Errorf("%w: %s", engine.ErrNoSlot, message)
	case C.SERVE_ABORTED:
		return engine.ErrAborted
	case C.SERVE_INVALID:
		return fmt.Errorf("%w: %s", engine.ErrInvalidBatch, message)
	case C.SERVE_FATAL, C.SERVE_NO_MEMORY:
		return fmt.Errorf("%w: %s", engine.ErrFatal, message)
	}
	return errors.New(message)
}

// goString copies a malloc'd C string and frees it.
func goString(s *C.char) string {
	if s == nil {
		return ""
	}
	defer C.serve_free(unsafe.Pointer(s))
	return C.GoString(s)
}

// Device is something that computes: the CPU, a GPU.
type Device struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Type        string `json:"type"` // cpu, gpu, igpu or accel
}

// GPU reports whether the device is one, with memory of its own or not.
func (d Device) GPU() bool { return d.Type == "gpu" || d.Type == "igpu" }

// Devices lists what llama.cpp was built for and found here. It takes no memory of them.
func Devices() ([]Device, error) {
	initialize()
	var e C.serve_error
	text := goString(C.serve_devices(&e))
	if err := goError(&e); err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var devices []Device
	return devices, json.Unmarshal([]byte(text), &devices)
}

// TypeSize returns how many elements of a ggml_type lie together, and in how many
// bytes; false when the engine has no such type.
func TypeSize(ggmlType uint32) (elements, bytes uint64, ok bool) {
	var e, b C.uint64_t
	ok = bool(C.serve_type_size(C.int32_t(ggmlType), &e, &b))
	return uint64(e), uint64(b), ok
}

// SystemInfo is llama.cpp's line on the CPU features it uses.
func SystemInfo() string {
	initialize()
	return strings.TrimSpace(C.GoString(C.serve_system_info()))
}

// Threads returns how many threads compute best here: one a physical core, and
// no more than the process may use.
func Threads() int { return min(int(C.serve_threads()), runtime.GOMAXPROCS(0)) }

// LoadOptions say how to load a model; the zero value maps the file and keeps
// every layer in main memory.
type LoadOptions struct {
	GPULayers int  // negative for all
	NoMMap    bool // read the file instead of mapping it
	NoRepack  bool // keep weights for the processor as they are in the file
	VocabOnly bool // no weights: for tokenizing and templates
	NoChat    bool // no chat templates: another process renders
	CPUOnly   bool // leave GPUs alone: without it they help with long prompts, even of no layers
	Lock      bool // keep weights in main memory from being swapped out; the file is read instead of mapped
	Placement

	layout bool // nothing is allocated: for Measure

	// Progress is called with 0 to 1 while the weights load; false stops it.
	Progress func(float32) bool `json:"-"`
}

// c returns what C reads of the options. The caller frees the placement.
func (o LoadOptions) c(progress cgo.Handle) (C.serve_model_params, error) {
	params := C.serve_model_params{
		gpu_layers: C.int32_t(o.GPULayers), mmap: C.bool(!o.NoMMap), vocab_only: C.bool(o.VocabOnly),
		cpu_only: C.bool(o.CPUOnly), no_alloc: C.bool(o.layout), no_chat: C.bool(o.NoChat), no_repack: C.bool(o.NoRepack),
		lock: C.bool(o.Lock), progress: C.uintptr_t(progress),
	}
	text, err := o.params()
	if text != nil {
		params.placement = C.CString(string(text))
	}
	return params, err
}

// Model is loaded weights, a vocabulary and chat templates.
type Model struct {
	c    *C.serve_model
	info modelInfo
}

type modelInfo struct {
	Architecture string `json:"architecture"`
	Name         string `json:"name"`
	Quantization string `json:"quantization"`
	Size         uint64 `json:"size"`
	Parameters   uint64 `json:"parameters"`
	ContextTrain int    `json:"context_train"`
	EmbeddingOut int    `json:"embedding_out"`
	EmbeddingIn  int    `json:"embedding_in"`
	Layers       int    `json:"layers"`
	Vocabulary   int    `json:"vocabulary"`
	Classes      int    `json:"classes"`
	HasEncoder   bool   `json:"has_encoder"`
	HasDecoder   bool   `json:"has_decoder"`
	RollsBack    bool   `json:"rolls_back"`
	Diffusion    bool   `json:"diffusion"`
	// SlidingWindow is how many tokens before it a token sees in some layers; 0 for all.
	SlidingWindow int    `json:"sliding_window"`
	Causal        bool   `json:"causal"`
	Pooling       int    `json:"pooling"`
	AddBOS        bool   `json:"add_bos"`
	BOS           int32  `json:"bos"`
	EOS           int32  `json:"eos"`
	SEP           int32  `json:"sep"`
	AddEOS        bool   `json:"add_eos"`
	AddSEP        bool   `json:"add_sep"`
	FIMPrefix     int32  `json:"fim_prefix"`
	FIMSuffix     int32  `json:"fim_suffix"`
	FIMMiddle     int32  `json:"fim_middle"`
	RankTemplate  string `json:"rank_template"`
	Template      string `json:"template"`
	Build         string `json:"build"`
}

// LoadModel loads a GGUF file. The caller must Close the model, after every
// context made of it.
func LoadModel(path string, o LoadOptions) (*Model, error) {
	initialize()
	var handle cgo.Handle
	if o.Progress != nil {
		handle = cgo.NewHandle(o.Progress)
		defer handle.Delete()
	}

	params, err := o.c(handle)
	if err != nil {
		return nil, fmt.Errorf("load model %q: %w", path, err)
	}
	defer C.free(unsafe.Pointer(params.placement))
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var e C.serve_error
	m := &Model{c: C.serve_model_load(cpath, params, &e)}
	if err := goError(&e); err != nil {
		return nil, fmt.Errorf("load model %q: %w", path, err)
	}

	text := goString(C.serve_model_info(m.c, &e))
	err = goError(&e)
	if err == nil {
		err = json.Unmarshal([]byte(text), &m.info)
	}

	if err != nil {
		C.serve_model_free(m.c)
		return nil, fmt.Errorf("read model %q: %w", path, err)
	}

	runtime.SetFinalizer(m, func(m *Model) { slog.Error("a model was never closed", "model", m.info.Name) })
	return m, nil
}

// Close frees the weights.
func (m *Model) Close() {
	runtime.SetFinalizer(m, nil)
	C.serve_model_free(m.c)
	m.c = nil
}

// plain reports whether all weights lie as they are in the file, in the processor's memory: none is packed for its
// kernels.
func (m *Model) plain() bool { return bool(C.serve_model_plain(m.c)) }

// offloads reports whether a GPU computes the logits.
func (m *Model) offloads() bool { return bool(C.serve_model_offloads(m.c)) }

// flags returns, for every token, whether it ends generation.
func (m *Model) endsGeneration() []bool {
	flags := make([]C.uint8_t, m.info.Vocabulary)
	if len(flags) > 0 {
		C.serve_vocab_flags(m.c, &flags[0])
	}
	ends := make([]bool, len(flags))
	for i, f := range flags {
		ends[i] = f&1 != 0
	}
	return ends
}

// pieces returns every token's bytes; those of control tokens only with special.
func (m *Model) pieces(special bool) [][]byte {
	n := m.info.Vocabulary
	offsets := make([]C.uint64_t, n+1)
	size := C.serve_vocab_pieces(m.c, C.bool(special), nil, 0, &offsets[0])
	if size == 0 {
		return make([][]byte, n)
	}
	buf := make([]byte, size)
	C.serve_vocab_pieces(m.c, C.bool(special), (*C.char)(unsafe.Pointer(&buf[0])), size, &offsets[0])
	pieces := make([][]byte, n)
	for i := range pieces {
		pieces[i] = buf[offsets[i]:offsets[i+1]:offsets[i+1]]
	}
	return pieces
}

// Tokenize splits text into tokens.
func (m *Model) Tokenize(text string, how engine.Reading) ([]engine.Token, error) {
	if len(text) > math.MaxInt32/2 {
		return nil, fmt.Errorf("tokenize: a text of %d bytes", len(text))
	}
	if err := how.Check(len(text)); err != nil {
		return nil, fmt.Errorf("tokenize: %w", err)
	}

	quoted := make([]C.size_t, 0, 2*len(how.Quoted))
	for _, q := range how.Quoted {
		quoted = append(quoted, C.size_t(q.From), C.size_t(q.To))
	}
	var e C.serve_error
	var n C.size_t
	list := C.serve_tokenize(m.c, (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text)),
		C.bool(how.Ends), C.bool(how.Control), unsafe.SliceData(quoted), C.size_t(len(how.Quoted)), &n, &e)
	return goTokens(list, n, &e)
}

// tokenizePlain is Tokenize by llama.cpp alone, for tests: long words end the process, and many control tokens take
// quadratic time.
func (m *Model) tokenizePlain(text string, addSpecial, parseSpecial bool) ([]engine.Token, error) {
	var e C.serve_error
	var n C.size_t
	list := C.serve_tokenize_plain(m.c, (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text)),
		C.bool(addSpecial), C.bool(parseSpecial), &n, &e)
	return goTokens(list, n, &e)
}

// goTokens copies what a C call returned, and frees it.
func goTokens(list *C.int32_t, n C.size_t, e *C.serve_error) ([]engine.Token, error) {
	if err := goError(e); err != nil {
		return nil, fmt.Errorf("tokenize: %w", err)
	}
	defer C.serve_free(unsafe.Pointer(list))
	return slices.Clone(unsafe.Slice((*engine.Token)(unsafe.Pointer(list)), int(n))), nil
}
