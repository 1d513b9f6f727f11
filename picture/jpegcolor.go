package picture

import (
	"errors"
	"image"
	"image/color"
	"math"
)

// zigzag is where a block's coefficients belong, by the order in which they are coded.
var zigzag = [64]int{
	0, 1, 8, 16, 9, 2, 3, 10,
	17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34,
	27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36,
	29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46,
	53, 60, 61, 54, 47, 55, 62, 63,
}

// waves are the cosines of the transform, by sample and frequency.
var waves = func() (w [8][8]float32) {
	for x := range 8 {
		for u := range 8 {
			w[x][u] = float32(0.5 * math.Cos(float64(2*x+1)*float64(u)*math.Pi/16))
		}
		w[x][0] *= math.Sqrt2 / 2
	}
	return w
}()

// image computes the samples and mixes them to an image.
func (f *jpegFile) image() (image.Image, error) {
	for i := range f.planes {
		p := &f.planes[i]
		table := f.quantizers[p.quantizer]
		if table == nil {
			return nil, errors.New("the JPEG lacks a quantization table")
		}
		p.transform(table)
	}
	if len(f.planes) == 4 {
		return f.inks(), nil
	}
	return f.colors(), nil
}

// transform computes the samples of a plane from its coefficients, which it frees.
func (p *plane) transform(table *[64]uint16) {
	p.samples = make([]byte, 64*p.wide*p.high)
	for y := range p.high {
		for x := range p.wide {
			p.transformBlock(p.block(x, y), table, p.samples[8*(y*8*p.wide+x):])
		}
	}
	p.coefficients = nil
}

// transformBlock computes a block's samples, which begin at out.
func (p *plane) transformBlock(b *[64]int16, table *[64]uint16, out []byte) {
	var values [64]float32 // frequencies, row by row
	var used [8]bool       // rows
	for k, c := range b {
		if c != 0 {
			values[zigzag[k]] = float32(c) * float32(table[k])
			used[zigzag[k]/8] = true
		}
	}

	var rows [64]float32 // samples across, frequencies down
	for v := range 8 {
		if !used[v] {
			continue
		}
		for x := range 8 {
			sum := float32(0)
			for u := range 8 {
				sum += values[8*v+u] * waves[x][u]
			}
			rows[8*v+x] = sum
		}
	}

	for y := range 8 {
		for x := range 8 {
			sum := float32(128.5)
			for v := range 8 {
				sum += rows[8*v+x] * waves[y][v]
			}
			out[y*8*p.wide+x] = byte(min(max(sum, 0), 255))
		}
	}
}

// sampler returns the sample of each plane at a pixel.
func (f *jpegFile) sampler(x, y int) (s [4]byte) {
	for i := range f.planes {
		p := &f.planes[i]
		s[i] = p.samples[y*p.v/f.vMax*8*p.wide+x*p.h/f.hMax]
	}
	return s
}

// colors mixes one or three planes.
func (f *jpegFile) colors() image.Image {
	img := image.NewRGBA(image.Rect(0, 0, f.width, f.height))
	rgb := len(f.planes) == 3 && !f.jfif &&
		(f.adobe == 0 || f.planes[0].id == 'R' && f.planes[1].id == 'G' && f.planes[2].id == 'B')
	for y := range f.height {
		for x := range f.width {
			s := f.sampler(x, y)
			switch {
			case len(f.planes) == 1:
				s[1] = s[0]
				s[2] = s[0]
			case !rgb:
				s[0], s[1], s[2] = color.YCbCrToRGB(s[0], s[1], s[2])
			}
			s[3] = 255
			copy(img.Pix[img.PixOffset(x, y):], s[:])
		}
	}
	return img
}

// inks mixes four planes. With Adobe's mark the amounts of ink are inverted; what it calls a transform is that of
// the first three.
func (f *jpegFile) inks() image.Image {
	img := image.NewCMYK(image.Rect(0, 0, f.width, f.height))
	for y := range f.height {
		for x := range f.width {
			s := f.sampler(x, y)
			if f.adobe > 0 {
				s[0], s[1], s[2] = color.YCbCrToRGB(s[0], s[1], s[2])
			}
			if f.adobe == 0 {
				for i := range s {
					s[i] = 255 - s[i]
				}
			}
			if f.adobe > 0 {
				s[3] = 255 - s[3]
			}
			copy(img.Pix[img.PixOffset(x, y):], s[:])
		}
	}
	return img
}
