// Package picture decodes untrusted image files: PNG, JPEG, WebP and GIF, in pure Go, so that
// they never reach a decoder written in C.
package picture

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/png"
	"io"
	"net/http"

	xdraw "golang.org/x/image/draw"
	"golang.org/x/image/webp"
)

// Limits on an image.
const (
	MaxPixels = 50_000_000 // enough for phones' cameras; 200 MB decoded
	MaxRatio  = 200        // of the longer side to the shorter
)

// Errors of Decode.
var (
	ErrFormat = errors.New("unsupported or damaged image")
	ErrSize   = errors.New("the image's size is not allowed")
)

// RGB is a decoded, upright image.
type RGB struct {
	Width, Height int
	Pixels        []byte // red, green, blue; row by row
}

// codec decodes one type of file.
type codec struct {
	config func(*source) (image.Config, error)
	decode func(*source) (image.Image, error)
}

var codecs = map[string]codec{
	"image/png":  {configBy(png.DecodeConfig), decodeBy(png.Decode)},
	"image/jpeg": {decodeJPEGConfig, decodeJPEG},
	"image/webp": {configBy(webp.DecodeConfig), decodeBy(webp.Decode)},
	"image/gif":  {configBy(gif.DecodeConfig), decodeBy(gif.Decode)},
}

func configBy(f func(io.Reader) (image.Config, error)) func(*source) (image.Config, error) {
	return func(s *source) (image.Config, error) { return f(s.reader()) }
}

func decodeBy(f func(io.Reader) (image.Image, error)) func(*source) (image.Image, error) {
	return func(s *source) (image.Image, error) { return f(s.reader()) }
}

// source is a file that is decoded until a context ends.
type source struct {
	ctx  context.Context
	data []byte
}

// reader returns a reader of the file from its beginning.
func (s *source) reader() io.Reader { return &reader{source: s} }

// reader reads a file in small pieces, and fails when the context ends: so a decoder, which may make much of a few
// bytes, ends soon after.
type reader struct {
	*source
	at int
}

// piece is how many bytes a Read returns at most.
const piece = 256

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	if r.at == len(r.data) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), piece)], r.data[r.at:])
	r.at += n
	return n, nil
}

// Decode decodes an image file of any of the types, whatever its declared type. If side is
// not 0, a larger image is scaled down to fit a square of side pixels. Transparency is
// rendered on white. Errors wrap ErrFormat or ErrSize, or are the cause of ctx's end. Accept is called with the
// number of pixels before they are decoded; its error is returned.
func Decode(ctx context.Context, data []byte, side int, accept func(pixels int) error) (*RGB, error) {
	rgb, err := decode(&source{ctx, data}, side, accept)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return rgb, err
}

func decode(s *source, side int, accept func(pixels int) error) (*RGB, error) {
	data := s.data
	kind := http.DetectContentType(data)
	c, ok := codecs[kind]
	if !ok {
		return nil, fmt.Errorf("%w: it is not a PNG, JPEG, WebP or GIF file", ErrFormat)
	}

	config, err := c.config(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := checkSize(config.Width, config.Height); err != nil {
		return nil, err
	}
	if err := accept(config.Width * config.Height); err != nil {
		return nil, err
	}
	if kind == "image/gif" && frames(data) > 1 {
		return nil, fmt.Errorf("%w: the GIF is animated", ErrFormat)
	}

	img, err := c.decode(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	// The size in a file's header may differ from that of the decoded image.
	if err := checkSize(img.Bounds().Dx(), img.Bounds().Dy()); err != nil {
		return nil, err
	}

	flat, err := flatten(s.ctx, img, side)
	if err != nil {
		return nil, err
	}
	return flat.turn(orientation(kind, data)), nil
}

func checkSize(width, height int) error {
	long := max(width, height)
	short := min(width, height)
	switch {
	case short < 1:
		return fmt.Errorf("%w: it is %d x %d pixels", ErrSize, width, height)
	case long > MaxPixels/short:
		return fmt.Errorf("%w: it is %d x %d pixels (maximum %d in total)", ErrSize, width, height, MaxPixels)
	case long > MaxRatio*short:
		return fmt.Errorf(
			"%w: it is %d x %d pixels; one side must be at most %d times the other", ErrSize, width, height, MaxRatio,
		)
	}
	return nil
}

// band is how many rows of an image are rendered before it is asked whether anybody still waits for them.
const band = 64

// flatten renders an image on white and scales it down to fit a square. It fails when ctx is done.
func flatten(ctx context.Context, img image.Image, side int) (*RGB, error) {
	from := img.Bounds()
	width := from.Dx()
	height := from.Dy()
	if long := max(width, height); side > 0 && long > side {
		width = max(1, width*side/long)
		height = max(1, height*side/long)
	}
	on := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(on, on.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	if width == from.Dx() && height == from.Dy() {
		for y := 0; y < height; y += band {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			draw.Draw(on, image.Rect(0, y, width, min(y+band, height)), img, from.Min.Add(image.Pt(0, y)), draw.Over)
		}
	} else {
		xdraw.CatmullRom.Scale(on, on.Bounds(), img, from, draw.Over, nil)
	}
	flat := &RGB{width, height, make([]byte, 3*width*height)}
	for i := range width * height {
		copy(flat.Pixels[3*i:3*i+3], on.Pix[4*i:4*i+3])
	}
	return flat, nil
}
