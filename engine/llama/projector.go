package llama

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"log/slog"
	"runtime"
	"unsafe"

	"serve/engine"
)

// Projector makes embeddings of images. One goroutine at a time may use it.
type Projector struct {
	c     *C.serve_projector
	width int // floats of an embedding
}

// ProjectorDevice says where a projector computes; the zero value is the processor.
type ProjectorDevice struct {
	GPU  bool   // on a GPU, where there is one
	Name string // which; empty for the first
}

// c returns the device's name for C, which the caller frees; NULL for none.
func (d ProjectorDevice) c() *C.char {
	if d.Name == "" {
		return nil
	}
	return C.CString(d.Name)
}

// NewProjector loads a projector, a GGUF file that goes with the model. The caller must Close it before the model.
func NewProjector(m *Model, path string, on ProjectorDevice, threads int) (*Projector, error) {
	if threads == 0 {
		threads = Threads()
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	device := on.c()
	defer C.free(unsafe.Pointer(device))
	var e C.serve_error
	c := C.serve_projector_new(m.c, cpath, C.bool(on.GPU), device, C.int32_t(threads), &e)
	p := &Projector{c, m.info.EmbeddingIn}
	if err := goError(&e); err != nil {
		return nil, fmt.Errorf("load projector %q: %w", path, err)
	}
	runtime.SetFinalizer(p, func(*Projector) { slog.Error("a projector was never closed") })
	return p, nil
}

// Close frees the projector.
func (p *Projector) Close() {
	runtime.SetFinalizer(p, nil)
	C.serve_projector_free(p.c)
	p.c = nil
}

// EncodeImage encodes an image, as engine.Runner's EncodeImage does.
func (p *Projector) EncodeImage(img *engine.Bitmap, limit int) ([]engine.Chunk, error) {
	if img.Width <= 0 || img.Height <= 0 || len(img.Pixels) != 3*img.Width*img.Height {
		return nil, fmt.Errorf(
			"%w: %d bytes of an image of %d x %d pixels", engine.ErrRequest, len(img.Pixels), img.Width, img.Height,
		)
	}

	var e C.serve_error
	image := C.serve_image_new(
		p.c, C.int32_t(img.Width), C.int32_t(img.Height), (*C.uint8_t)(unsafe.Pointer(&img.Pixels[0])), &e,
	)
	if err := goError(&e); err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrRequest, err)
	}
	defer C.serve_image_free(image)
	var pieces []C.serve_chunk
	total := 0
	for {
		var c C.serve_chunk
		if !C.serve_image_chunk(image, C.int32_t(len(pieces)), &c) {
			break
		}
		pieces = append(pieces, c)
		total += int(c.n)
	}

	if total > limit {
		return nil, &engine.LengthError{Tokens: total, Limit: limit}
	}

	chunks := make([]engine.Chunk, len(pieces))
	for i, c := range pieces {
		if c.tokens != nil {
			for _, t := range unsafe.Slice(c.tokens, c.n) {
				chunks[i].Tokens = append(chunks[i].Tokens, engine.Token(t))
			}
			continue
		}
		m := &engine.Media{
			Embeddings: make([]float32, int(c.n)*p.width),
			Len:        int(c.n),
			Span:       int(c.span),
			Whole:      bool(c.whole),
		}
		var grid *C.int32_t
		if c.grid {
			m.Grid = make([]int32, 4*m.Len)
			grid = (*C.int32_t)(&m.Grid[0])
		}
		C.serve_image_encode(image, C.int32_t(i), (*C.float)(&m.Embeddings[0]), grid, &e)
		if err := goError(&e); err != nil {
			return nil, fmt.Errorf("%w: %w", engine.ErrRequest, err)
		}
		chunks[i].Media = m
	}

	return chunks, nil
}
