package picture

import (
	"context"
	"errors"
)

var errCodes = errors.New("the JPEG's data is damaged")

// huffmanTable is a canonical Huffman code, by the lengths of codes from 1 to 16.
type huffmanTable struct {
	first  [17]int32 // code of each length
	count  [17]int32
	offset [17]int // of its value
	values []byte
}

// huffman reads Huffman tables.
func (f *jpegFile) huffman(b []byte) error {
	for len(b) > 0 {
		if len(b) < 17 || b[0]>>4 > 1 || b[0]&15 > 3 {
			return errors.New("the JPEG has a bad Huffman table")
		}

		t := &huffmanTable{}
		code := int32(0)
		n := 0
		for length := 1; length <= 16; length++ {
			t.first[length] = code
			t.count[length] = int32(b[length])
			t.offset[length] = n
			n += int(b[length])
			code = (code + int32(b[length])) << 1
		}
		if n > 256 || len(b) < 17+n {
			return errors.New("the JPEG has a bad Huffman table")
		}

		t.values = b[17 : 17+n]
		f.codes[b[0]>>4][b[0]&15] = t
		b = b[17+n:]
	}
	return nil
}

// fill reads bytes until there are 16 bits at least, or the data of the scan ends.
func (f *jpegFile) fill() {
	for f.nBits <= 24 && f.at < len(f.data) {
		b := f.data[f.at]
		if b == 0xff {
			if f.at+1 >= len(f.data) || f.data[f.at+1] != 0 {
				return // a marker
			}
			f.at++
		}
		f.at++
		f.bits |= uint32(b) << (24 - f.nBits)
		f.nBits += 8
	}
}

// readBits returns the next n bits, at most 16.
func (f *jpegFile) readBits(n int) (int32, error) {
	if n == 0 {
		return 0, nil
	}
	if f.nBits < n {
		if f.fill(); f.nBits < n {
			return 0, errCut
		}
	}
	v := f.bits >> (32 - n)
	f.bits <<= n
	f.nBits -= n
	return int32(v), nil
}

// symbol decodes the next value of a Huffman code.
func (f *jpegFile) symbol(t *huffmanTable) (byte, error) {
	if f.nBits < 16 {
		f.fill()
	}
	for length := 1; length <= min(16, f.nBits); length++ {
		code := int32(f.bits >> (32 - length))
		if i := code - t.first[length]; i >= 0 && i < t.count[length] {
			f.bits <<= length
			f.nBits -= length
			return t.values[t.offset[length]+int(i)], nil
		}
	}
	if f.nBits < 16 {
		return 0, errCut
	}
	return 0, errCodes
}

// signed reads a number of n bits as differences and coefficients are written: half of them negative.
func (f *jpegFile) signed(n byte) (int32, error) {
	if n > 15 {
		return 0, errCodes
	}
	v, err := f.readBits(int(n))
	if n > 0 && v < 1<<(n-1) {
		v += -1<<n + 1
	}
	return v, err
}

// scan is one pass over some planes, and what it codes of them: the coefficients from ss to se, their bits from
// al on; ah is not 0 if earlier scans have coded higher bits.
type scan struct {
	planes         []scanPlane
	ss, se, ah, al int
}

type scanPlane struct {
	*plane
	dc, ac *huffmanTable
}

// scan decodes a scan.
func (f *jpegFile) scan(header []byte) error {
	s, err := f.scanHeader(header)
	if err != nil {
		return err
	}

	f.allocate()
	across, down := f.mcus()
	if len(s.planes) == 1 { // not interleaved: an MCU is a block, and there are none beyond the image
		p := s.planes[0]
		across = ceil(ceil(f.width*p.h, f.hMax), 8)
		down = ceil(ceil(f.height*p.v, f.vMax), 8)
	}

	f.restart(&s)
	for mcu := range across * down {
		if mcu%across == 0 && f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		if f.interval > 0 && mcu > 0 && mcu%f.interval == 0 {
			if err := f.skipRestart(&s); err != nil {
				return err
			}
		}
		if err := f.mcu(&s, mcu%across, mcu/across); err != nil {
			return err
		}
	}

	f.bits = 0
	f.nBits = 0
	return nil
}

// scanHeader reads the header of a scan.
func (f *jpegFile) scanHeader(b []byte) (s scan, err error) {
	if f.planes == nil || len(b) < 1 || len(b) != 4+2*int(b[0]) || b[0] == 0 || int(b[0]) > len(f.planes) {
		return s, errCodes
	}

	rest := b[1+2*int(b[0]):]
	s.ss = int(rest[0])
	s.se = int(rest[1])
	s.ah = int(rest[2] >> 4)
	s.al = int(rest[2] & 15)
	if !f.progressive {
		s.ss = 0
		s.se = 63
		s.ah = 0
		s.al = 0
	}
	if s.se > 63 || s.ss > s.se || s.al > 13 || f.progressive && (s.ss == 0) != (s.se == 0) || s.ss > 0 && b[0] > 1 {
		return s, errCodes
	}

	for b := b[1 : 1+2*int(b[0])]; len(b) > 0; b = b[2:] {
		if b[1]>>4 > 3 || b[1]&15 > 3 {
			return s, errCodes
		}
		for i := range f.planes {
			if p := &f.planes[i]; p.id == b[0] {
				s.planes = append(s.planes, scanPlane{p, f.codes[0][b[1]>>4], f.codes[1][b[1]&15]})
				break
			}
		}
	}
	if len(s.planes) != int(b[0]) {
		return s, errCodes
	}
	return s, s.check()
}

// check reports whether the Huffman tables that a scan needs are there, and whether it names a plane twice.
func (s *scan) check() error {
	for i, p := range s.planes {
		if s.ss == 0 && s.ah == 0 && p.dc == nil || s.se > 0 && p.ac == nil {
			return errors.New("the JPEG lacks a Huffman table")
		}
		for _, other := range s.planes[:i] {
			if other.plane == p.plane {
				return errCodes
			}
		}
	}
	return nil
}

// restart forgets what blocks depend on.
func (f *jpegFile) restart(s *scan) {
	f.bits = 0
	f.nBits = 0
	f.eobs = 0
	for _, p := range s.planes {
		p.predicted = 0
	}
}

// skipRestart reads a restart marker.
func (f *jpegFile) skipRestart(s *scan) error {
	for f.at+1 < len(f.data) && f.data[f.at] == 0xff && f.data[f.at+1] == 0xff {
		f.at++
	}
	if f.at+1 >= len(f.data) {
		return errCut
	}
	if m := f.data[f.at+1]; f.data[f.at] != 0xff || m < markRST0 || m > markRST7 {
		return errCodes
	}
	f.at += 2
	f.restart(s)
	return nil
}

// mcu decodes the blocks of an MCU.
func (f *jpegFile) mcu(s *scan, x, y int) error {
	if len(s.planes) == 1 {
		p := &s.planes[0]
		return f.block(s, p, p.block(x, y))
	}
	for i := range s.planes {
		p := &s.planes[i]
		for v := range p.v {
			for h := range p.h {
				if err := f.block(s, p, p.block(x*p.h+h, y*p.v+v)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// block returns the coefficients of a block, in zigzag order.
func (p *plane) block(x, y int) *[64]int16 {
	return (*[64]int16)(p.coefficients[64*(y*p.wide+x):])
}

// block decodes what a scan has of a block.
func (f *jpegFile) block(s *scan, p *scanPlane, b *[64]int16) error {
	if s.ah > 0 {
		return f.refine(s, p, b)
	}

	k := s.ss
	if k == 0 {
		n, err := f.symbol(p.dc)
		if err != nil {
			return err
		}
		difference, err := f.signed(n)
		if err != nil {
			return err
		}
		p.predicted += difference
		b[0] = int16(p.predicted << s.al)
		k = 1
	}

	if f.eobs > 0 {
		f.eobs--
		return nil
	}
	for ; k <= s.se; k++ {
		run, size, err := f.runAndSize(p.ac)
		if err != nil {
			return err
		}
		if size == 0 && run < 15 {
			return f.endOfBlocks(s, run)
		}
		if k += run; k > s.se {
			return errCodes
		}
		if size == 0 {
			continue // sixteen zeros
		}
		v, err := f.signed(byte(size))
		if err != nil {
			return err
		}
		b[k] = int16(v << s.al)
	}
	return nil
}

// runAndSize reads how many zeros come before a coefficient, and its size in bits.
func (f *jpegFile) runAndSize(t *huffmanTable) (run, size int, err error) {
	symbol, err := f.symbol(t)
	return int(symbol >> 4), int(symbol & 15), err
}

// endOfBlocks reads how many blocks end: this one, and others in progressive files.
func (f *jpegFile) endOfBlocks(s *scan, run int) error {
	if !f.progressive {
		return nil
	}
	more, err := f.readBits(run)
	f.eobs = 1<<run + int(more) - 1
	return err
}

// refine decodes one more bit of a block's coefficients.
func (f *jpegFile) refine(s *scan, p *scanPlane, b *[64]int16) error {
	bit := int16(1) << s.al
	if s.ss == 0 {
		one, err := f.readBits(1)
		if one > 0 {
			b[0] |= bit
		}
		return err
	}

	k := s.ss
	for ; f.eobs == 0 && k <= s.se; k++ {
		run, size, err := f.runAndSize(p.ac)
		if err != nil {
			return err
		}

		added := int16(0)
		switch {
		case size == 1:
			positive, err := f.readBits(1)
			if err != nil {
				return err
			}
			if added = -bit; positive > 0 {
				added = bit
			}
		case size > 1:
			return errCodes
		case run < 15:
			if err := f.endOfBlocks(s, run); err != nil {
				return err
			}
			f.eobs++ // this one's rest is below
		}
		if f.eobs > 0 {
			break
		}

		if k, err = f.correct(b, k, s.se, run, bit); err != nil {
			return err
		}
		if k <= s.se && added != 0 {
			b[k] = added
		}
	}

	if f.eobs > 0 {
		f.eobs--
		_, err := f.correct(b, k, s.se, 64, bit)
		return err
	}
	return nil
}

// correct reads a bit for each coefficient from k to the last that is not 0, until it has passed so many zeros.
// It returns the place of the next zero.
func (f *jpegFile) correct(b *[64]int16, k, last, zeros int, bit int16) (int, error) {
	for ; k <= last; k++ {
		if b[k] == 0 {
			if zeros == 0 {
				return k, nil
			}
			zeros--
			continue
		}

		one, err := f.readBits(1)
		switch {
		case err != nil:
			return k, err
		case one == 0 || b[k]&bit != 0:
		case b[k] > 0:
			b[k] += bit
		default:
			b[k] -= bit
		}
	}
	return k, nil
}
