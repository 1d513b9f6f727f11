// Package picture decodes untrusted image files: PNG, JPEG, WebP and GIF, in pure Go, so that
// they never reach a decoder written in C.
package picture

import (
	"bytes"
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
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

var codecs = map[string]codec{
	"image/png":  {png.DecodeConfig, png.Decode},
	"image/jpeg": {decodeJPEGConfig, decodeJPEG},
	"image/webp": {webp.DecodeConfig, webp.Decode},
	"image/gif":  {gif.DecodeConfig, gif.Decode},
}

// Decode decodes an image file of any of the types, whatever its declared type. If side is
// not 0, a larger image is scaled down to fit a square of side pixels. Transparency is
// rendered on white. Errors wrap ErrFormat or ErrSize.
func Decode(data []byte, side int) (*RGB, error) {
	kind := http.DetectContentType(data)
	c, ok := codecs[kind]
	if !ok {
		return nil, fmt.Errorf("%w: it is not a PNG, JPEG, WebP or GIF file", ErrFormat)
	}

	config, err := c.config(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := checkSize(config.Width, config.Height); err != nil {
		return nil, err
	}
	if kind == "image/gif" && frames(data) > 1 {
		return nil, fmt.Errorf("%w: the GIF is animated", ErrFormat)
	}

	img, err := c.decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	// The size in a file's header may differ from that of the decoded image.
	if err := checkSize(img.Bounds().Dx(), img.Bounds().Dy()); err != nil {
		return nil, err
	}

	return flatten(img, side).turn(orientation(kind, data)), nil
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

// flatten renders an image on white and scales it down to fit a square.
func flatten(img image.Image, side int) *RGB {
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
		draw.Draw(on, on.Bounds(), img, from.Min, draw.Over)
	} else {
		xdraw.CatmullRom.Scale(on, on.Bounds(), img, from, draw.Over, nil)
	}
	flat := &RGB{width, height, make([]byte, 3*width*height)}
	for i := range width * height {
		copy(flat.Pixels[3*i:3*i+3], on.Pix[4*i:4*i+3])
	}
	return flat
}
