package picture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
)

// Go's decoder reads most JPEG files, but refuses those whose planes are sampled in unusual ways, and those with
// four planes that Adobe's programs have not marked. They are decoded here: sequential and progressive files with
// Huffman codes and 8 bits.

// Limits on the passes over an image, and on the pixels that they pass in all. Encoders make about ten; each pass
// costs time for all blocks of the image, also if it has hardly any data.
const (
	maxScans  = 100
	maxPassed = 600_000_000
)

var errCut = errors.New("the JPEG is truncated")

// decodeJPEG decodes a JPEG file.
func decodeJPEG(s *source) (image.Image, error) {
	config, err := decodeJPEGConfig(s)
	if err != nil {
		return nil, err
	}
	most := min(maxScans, maxPassed/max(config.Width*config.Height, 1))
	if n := scans(s.data); n > most {
		return nil, fmt.Errorf("the JPEG has too many scans for %d x %d pixels: %d (maximum %d)",
			config.Width, config.Height, n, most)
	}

	img, err := jpeg.Decode(s.reader())
	var unsupported jpeg.UnsupportedError
	if !errors.As(err, &unsupported) {
		return img, err
	}

	f := jpegFile{ctx: s.ctx, data: s.data, adobe: -1}
	if err := f.read(); err != nil {
		return nil, err
	}
	return f.image()
}

// decodeJPEGConfig returns the size of a JPEG file.
func decodeJPEGConfig(s *source) (image.Config, error) {
	config, err := jpeg.DecodeConfig(s.reader())
	var unsupported jpeg.UnsupportedError
	if !errors.As(err, &unsupported) {
		return config, err
	}

	f := jpegFile{ctx: s.ctx, data: s.data, adobe: -1, headOnly: true}
	if err := f.read(); err != nil {
		return image.Config{}, err
	}
	return image.Config{ColorModel: color.RGBAModel, Width: f.width, Height: f.height}, nil
}

// The markers that are read.
const (
	markSOF0  = 0xc0 // sequential
	markSOF1  = 0xc1 // sequential, extended
	markSOF2  = 0xc2 // progressive
	markDHT   = 0xc4
	markRST0  = 0xd0
	markRST7  = 0xd7
	markSOI   = 0xd8
	markEOI   = 0xd9
	markSOS   = 0xda
	markDQT   = 0xdb
	markDRI   = 0xdd
	markAPP0  = 0xe0
	markAPP1  = 0xe1
	markAPP14 = 0xee
)

// jpegFile is a file that is decoded.
type jpegFile struct {
	ctx      context.Context
	data     []byte
	at       int  // of what is read next
	headOnly bool // stops when the size is known

	width, height int
	progressive   bool
	planes        []plane
	hMax, vMax    int
	quantizers    [4]*[64]uint16      // in zigzag order
	codes         [2][4]*huffmanTable // by class (DC, AC) and destination
	interval      int                 // MCUs between restarts; 0 for none
	jfif          bool
	adobe         int // transform that Adobe's mark names; -1 without the mark

	bits  uint32 // read and not yet used, from bit 31 on
	nBits int
	eobs  int // blocks that end without more coefficients in this scan
}

// plane is a component of the image.
type plane struct {
	id           byte
	h, v         int // samples for every hMax x vMax pixels
	quantizer    int
	wide, high   int // in blocks, those of a whole number of MCUs
	coefficients []int16
	samples      []byte // 8*wide in a row
	predicted    int32
}

// segments calls f for the segments of a JPEG file until f returns false, without their markers and lengths. It
// skips the data of scans.
func segments(data []byte, f func(marker byte, segment []byte) bool) {
	at := 2
	for {
		for at+1 < len(data) && (data[at] != 0xff || data[at+1] == 0 || data[at+1] == 0xff ||
			data[at+1] >= markRST0 && data[at+1] <= markRST7) {
			next := bytes.IndexByte(data[at+1:], 0xff)
			if next < 0 {
				return
			}
			at += 1 + next
		}
		if at+4 > len(data) || data[at+1] == markEOI {
			return
		}

		end := at + 2 + int(binary.BigEndian.Uint16(data[at+2:]))
		if end < at+4 || end > len(data) || !f(data[at+1], data[at+4:end]) {
			return
		}
		at = end
	}
}

// scans counts the scans of a JPEG file.
func scans(data []byte) int {
	n := 0
	segments(data, func(marker byte, _ []byte) bool {
		if marker == markSOS {
			n++
		}
		return true
	})
	return n
}

// read decodes the file into the planes' coefficients.
func (f *jpegFile) read() error {
	if len(f.data) < 2 || f.data[1] != markSOI {
		return errors.New("not a JPEG")
	}

	f.at = 2
	scanned := false
	for {
		marker, err := f.marker()
		if err != nil {
			return err
		}
		if marker == markEOI {
			break
		}
		segment, err := f.segment()
		if err != nil {
			return err
		}

		switch marker {
		case markSOF0, markSOF1, markSOF2:
			f.progressive = marker == markSOF2
			err = f.frame(segment)
		case markDHT:
			err = f.huffman(segment)
		case markDQT:
			err = f.quantize(segment)
		case markDRI:
			if len(segment) == 2 {
				f.interval = int(binary.BigEndian.Uint16(segment))
			}
		case markAPP0:
			f.jfif = f.jfif || bytes.HasPrefix(segment, []byte("JFIF\x00"))
		case markAPP14:
			if len(segment) >= 12 && bytes.HasPrefix(segment, []byte("Adobe")) {
				f.adobe = int(segment[11])
			}
		case markSOS:
			scanned = true
			err = f.scan(segment)
		default:
			if marker < markAPP0 && marker != 0xdc {
				err = fmt.Errorf("the JPEG is of an unsupported kind: marker %x", marker)
			}
		}
		if err != nil || f.headOnly && f.planes != nil {
			return err
		}
	}

	if !scanned {
		return errCut
	}
	return nil
}

// marker finds the next marker. Bytes between a scan's end and it are padding.
func (f *jpegFile) marker() (byte, error) {
	for f.at+1 < len(f.data) {
		at := f.at
		if m := f.data[at+1]; f.data[at] == 0xff && m != 0 && m != 0xff && (m < markRST0 || m > markRST7) {
			f.at += 2
			return m, nil
		}
		f.at++
	}
	return 0, errCut
}

// segment reads the segment of a marker.
func (f *jpegFile) segment() ([]byte, error) {
	if f.at+2 > len(f.data) {
		return nil, errCut
	}
	begin := f.at + 2
	end := f.at + int(binary.BigEndian.Uint16(f.data[f.at:]))
	if end < begin || end > len(f.data) {
		return nil, errCut
	}
	f.at = end
	return f.data[begin:end], nil
}

// frame reads the size and the planes.
func (f *jpegFile) frame(b []byte) error {
	switch {
	case f.planes != nil:
		return errors.New("the JPEG has several frames")
	case len(b) < 6 || len(b) != 6+3*int(b[5]):
		return errCut
	case b[0] != 8:
		return fmt.Errorf("the JPEG has %d bits per sample", b[0])
	case b[5] != 1 && b[5] != 3 && b[5] != 4:
		return fmt.Errorf("the JPEG has %d planes", b[5])
	}

	f.height = int(binary.BigEndian.Uint16(b[1:]))
	f.width = int(binary.BigEndian.Uint16(b[3:]))
	if err := checkSize(f.width, f.height); err != nil {
		return err
	}

	for b := b[6:]; len(b) > 0; b = b[3:] {
		p := plane{id: b[0], h: int(b[1] >> 4), v: int(b[1] & 15), quantizer: int(b[2])}
		if p.h < 1 || p.h > 4 || p.v < 1 || p.v > 4 || p.quantizer > 3 {
			return errors.New("the JPEG's planes have an invalid sampling")
		}
		f.planes = append(f.planes, p)
		f.hMax = max(f.hMax, p.h)
		f.vMax = max(f.vMax, p.v)
	}
	if len(f.planes) == 1 { // with nothing to be sampled beside, each block is an MCU
		f.planes[0].h = 1
		f.planes[0].v = 1
		f.hMax = 1
		f.vMax = 1
	}
	return nil
}

// allocate makes room for the coefficients, once a scan comes.
func (f *jpegFile) allocate() {
	across, down := f.mcus()
	for i := range f.planes {
		p := &f.planes[i]
		if p.coefficients == nil {
			p.wide = across * p.h
			p.high = down * p.v
			p.coefficients = make([]int16, 64*p.wide*p.high)
		}
	}
}

// mcus returns how many MCUs the image has.
func (f *jpegFile) mcus() (across, down int) {
	return ceil(f.width, 8*f.hMax), ceil(f.height, 8*f.vMax)
}

// ceil divides, and rounds up.
func ceil(a, b int) int { return (a + b - 1) / b }

// quantize reads quantization tables.
func (f *jpegFile) quantize(b []byte) error {
	for len(b) > 0 {
		wide := int(b[0] >> 4) // two bytes a value
		if b[0]&15 > 3 || wide > 1 || len(b) < 1+64<<wide {
			return errors.New("the JPEG has a bad quantization table")
		}
		table := new([64]uint16)
		for i := range table {
			table[i] = uint16(b[1+i])
			if wide == 1 {
				table[i] = binary.BigEndian.Uint16(b[1+2*i:])
			}
		}
		f.quantizers[b[0]&15] = table
		b = b[1+64<<wide:]
	}
	return nil
}
