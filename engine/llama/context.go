package llama

// #include "shim.h"
import "C"

import (
	"cmp"
	"fmt"
	"log/slog"
	"runtime"
	"unsafe"

	"serve/engine"
)

// Pooling types of an embedding context.
const (
	PoolingModel = -1 // what the file says
	PoolingNone  = 0
	PoolingMean  = 1
	PoolingCLS   = 2
	PoolingLast  = 3
	PoolingRank  = 4 // the classifier's scores instead of an embedding
)

// kvTypes are the element types that KV cells can have, as ggml numbers them.
var kvTypes = map[string]C.int32_t{"": 1, "f16": 1, "q8_0": 8, "q4_0": 2}

// flashAttention has llama.cpp's numbers of when attention is computed in one kernel.
var flashAttention = map[string]C.int32_t{"": -1, "auto": -1, "off": 0, "on": 1}

// ContextOptions are a context's sizes.
type ContextOptions struct {
	Cells      int  // KV cells in all
	Sequences  int  // sequences that can be told apart
	Shared     bool // one KV buffer for all sequences, not one of Cells/Sequences for each
	Batch      int  // most tokens of a Decode
	MicroBatch int  // most tokens of a compute graph, 0 for Batch
	Outputs    int  // most rows of logits of a Decode, 0 for Batch
	Threads    int  // 0 for Threads()
	Poll       int  // how hard idle compute threads spin, 0..100
	// ThreadsOf is a context of as many threads that never computes at the same time: they compute for both, and those of
	// one do not spin in the way of the other's. Nil for threads of its own.
	ThreadsOf  *Context
	KVType     string // f16 by default
	VType      string // of values, where they have another type than keys; KVType by default
	FlashAttn  string // on, off, or auto, the default: where a device has it
	RoPE       RoPE
	Embeddings bool // gives embeddings, not logits
	// BackendSampling draws tokens where the logits are, if the device can; see Context.Step.
	BackendSampling bool
	Pooling         int // of embeddings
}

func (o ContextOptions) c() (C.serve_context_params, error) {
	typeK, okK := kvTypes[o.KVType]
	typeV, okV := kvTypes[cmp.Or(o.VType, o.KVType)]
	if !okK || !okV {
		return C.serve_context_params{}, fmt.Errorf("unknown KV type %q or %q", o.KVType, o.VType)
	}

	flash, ok := flashAttention[o.FlashAttn]
	if !ok {
		return C.serve_context_params{}, fmt.Errorf("flash attention is on, off or auto, not %q", o.FlashAttn)
	}
	if o.MicroBatch == 0 {
		o.MicroBatch = o.Batch
	}
	if o.Threads == 0 {
		o.Threads = Threads()
	}

	params := C.serve_context_params{
		n_ctx: C.uint32_t(o.Cells), n_batch: C.uint32_t(o.Batch), n_ubatch: C.uint32_t(o.MicroBatch),
		n_seq_max: C.uint32_t(o.Sequences), n_outputs: C.uint32_t(o.Outputs),
		n_threads: C.int32_t(o.Threads), poll: C.uint32_t(o.Poll), type_k: typeK, type_v: typeV,
		pooling: C.int32_t(o.Pooling), unified: C.bool(o.Shared), embeddings: C.bool(o.Embeddings), flash_attn: flash,
		backend_sampling: C.bool(o.BackendSampling),
	}
	if o.ThreadsOf != nil {
		params.threads_of = o.ThreadsOf.c
	}
	return params, o.RoPE.set(&params)
}

// Context is KV cells and compute buffers. One goroutine at a time may use it,
// except for Abort.
type Context struct {
	c     *C.serve_context
	model *Model
	opts  ContextOptions
}

// NewContext allocates a context. The caller must Close it before the model.
func NewContext(m *Model, o ContextOptions) (*Context, error) {
	params, err := o.c()
	if err != nil {
		return nil, err
	}
	var e C.serve_error
	ctx := &Context{c: C.serve_context_new(m.c, params, &e), model: m, opts: o}
	if err := goError(&e); err != nil {
		return nil, fmt.Errorf("create context of %d cells: %w", o.Cells, err)
	}
	runtime.SetFinalizer(ctx, func(*Context) { slog.Error("a context was never closed") })
	return ctx, nil
}

// Close frees the context.
func (c *Context) Close() {
	runtime.SetFinalizer(c, nil)
	C.serve_context_free(c.c)
	c.c = nil
}

// Shape returns the cells in all and those one sequence can have, as allocated:
// llama.cpp rounds up.
func (c *Context) Shape() (cells, perSequence int) {
	var n, seq C.uint32_t
	C.serve_context_shape(c.c, &n, &seq)
	return int(n), int(seq)
}

// onePath makes each row of the decodes after it have the same bits, whatever else is in the batch and however many
// threads compute, or takes that back. It reports false, and has changed nothing, if another device than the processor
// computes.
func (c *Context) onePath(on bool) bool { return bool(C.serve_one_path(c.c, C.bool(on))) }

// samples reports whether the device that computes the logits draws tokens, too.
func (c *Context) samples() bool { return bool(C.serve_samples(c.c)) }

// Abort makes the Decode under way, and any later one, fail with engine.ErrAborted.
func (c *Context) Abort() { C.serve_abort(c.c, true) }

// Decode computes a batch. Its arguments are checked here: llama.cpp would
// corrupt memory on some that are not.
func (c *Context) Decode(b *engine.Batch) error {
	n := b.Len()
	media := len(b.Embeddings) > 0
	if n == 0 || n > c.opts.Batch || !media && len(b.Tokens) != n || len(b.Sequences) != n || len(b.Outputs) != n {
		return fmt.Errorf("%w: %d tokens of at most %d", engine.ErrInvalidBatch, n, c.opts.Batch)
	}
	if media && (len(b.Embeddings) != n*c.model.info.EmbeddingIn || len(b.Grid) > 0 && len(b.Grid) != 3*n) {
		return fmt.Errorf("%w: %d floats for %d embeddings", engine.ErrInvalidBatch, len(b.Embeddings), n)
	}

	for i := range n {
		if !media && (b.Tokens[i] < 0 || int(b.Tokens[i]) >= c.model.info.Vocabulary) {
			return fmt.Errorf("%w: token %d of %d", engine.ErrInvalidBatch, b.Tokens[i], c.model.info.Vocabulary)
		}
		if s := b.Sequences[i]; s < 0 || int(s) >= c.opts.Sequences {
			return fmt.Errorf("%w: sequence %d of %d", engine.ErrInvalidBatch, s, c.opts.Sequences)
		}
		if b.Positions[i] < 0 {
			return fmt.Errorf("%w: position %d", engine.ErrInvalidBatch, b.Positions[i])
		}
	}

	var e C.serve_error
	if media {
		C.serve_decode_media(c.c, C.int32_t(n), (*C.float)(&b.Embeddings[0]), (*C.int32_t)(&b.Positions[0]),
			(*C.int32_t)(unsafe.SliceData(b.Grid)), (*C.int32_t)(&b.Sequences[0]), C.bool(b.Whole), &e)
		return goError(&e)
	}

	C.serve_decode(c.c, C.int32_t(n), (*C.int32_t)(&b.Tokens[0]), (*C.int32_t)(&b.Positions[0]),
		(*C.int32_t)(&b.Sequences[0]), (*C.int8_t)(&b.Outputs[0]), &e)
	return goError(&e)
}

// Logits returns a row of the last batch, one float a token of the vocabulary.
func (c *Context) Logits(index int) ([]float32, error) {
	out := make([]float32, c.model.info.Vocabulary)
	var e C.serve_error
	C.serve_logits(c.c, C.int32_t(index), (*C.float)(&out[0]), &e)
	return out, goError(&e)
}

// Embedding returns n floats: of the sequence when the context pools, of the
// batch entry at index otherwise.
func (c *Context) Embedding(seq, index, n int) ([]float32, error) {
	out := make([]float32, n)
	var e C.serve_error
	C.serve_embedding(c.c, C.int32_t(seq), C.int32_t(index), (*C.float)(&out[0]), C.int32_t(n), &e)
	return out, goError(&e)
}

// RemoveKV drops a sequence's cells from position from on. It reports false when
// the model keeps a state that cannot go back there.
func (c *Context) RemoveKV(seq, from int) bool {
	return bool(C.serve_kv_remove(c.c, C.int32_t(seq), C.int32_t(from)))
}

// CopyKV makes dst hold what src holds and nothing else.
func (c *Context) CopyKV(src, dst int) { C.serve_kv_copy(c.c, C.int32_t(src), C.int32_t(dst)) }

// ClearKV empties every sequence.
func (c *Context) ClearKV() { C.serve_kv_clear(c.c) }

// LastPosition returns the greatest position a sequence holds, -1 when it is empty.
func (c *Context) LastPosition(seq int) int { return int(C.serve_kv_max(c.c, C.int32_t(seq))) }

// State copies a sequence's cells to main memory.
func (c *Context) State(seq int) []byte {
	size := C.serve_state_size(c.c, C.int32_t(seq))
	if size == 0 {
		return nil
	}
	buf := make([]byte, size)
	n := C.serve_state_get(c.c, C.int32_t(seq), (*C.uint8_t)(unsafe.Pointer(&buf[0])), size)
	return buf[:n]
}

// SetState makes a sequence hold what State returned of one.
func (c *Context) SetState(seq int, state []byte) error {
	if len(state) == 0 ||
		C.serve_state_set(c.c, C.int32_t(seq), (*C.uint8_t)(unsafe.Pointer(&state[0])), C.size_t(len(state))) == 0 {
		return fmt.Errorf("restore sequence %d from %d bytes", seq, len(state))
	}
	return nil
}
