package testmodel

import (
	"encoding/binary"
	"fmt"
	"math"
)

// F32 is the type of weights that are written as they are.
const F32 = "F32"

// Types are the other types that weights can have. Each quantizer here rounds to the
// nearest and searches for nothing better: the files are for tests of kernels, which must
// compute with whatever a file says.
var Types = []string{"F16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "MXFP4"}

// A format says how a type lays out blocks of elements, after ggml's definition of it.
// dequantize is the exact meaning of a block.
type format struct {
	kind     uint32 // ggml's number of the type
	file     uint32 // llama.cpp's number of a file that mostly has it
	elements int    // of a block
	bytes    int    // of a block

	quantize   func(block []byte, x []float32)
	dequantize func(x []float32, block []byte)
}

var formats = map[string]format{
	F32:      {0, 0, 1, 4, putFloat, getFloat},
	"F16":    {1, 1, 1, 2, putHalf, getHalf},
	"Q4_0":   {2, 2, 32, 18, quantizeQ40, dequantizeQ40},
	"Q4_1":   {3, 3, 32, 20, quantizeQ41, dequantizeQ41},
	"Q8_0":   {8, 7, 32, 34, quantizeQ80, dequantizeQ80},
	"Q4_K":   {12, 15, 256, 144, quantizeQ4K, dequantizeQ4K},
	"Q5_K":   {13, 17, 256, 176, quantizeQ5K, dequantizeQ5K},
	"Q6_K":   {14, 18, 256, 210, quantizeQ6K, dequantizeQ6K},
	"IQ4_XS": {23, 30, 256, 136, quantizeIQ4XS, dequantizeIQ4XS},
	"MXFP4":  {39, 38, 32, 17, quantizeMXFP4, dequantizeMXFP4},
}

// encode returns values in a format, whose blocks they must fill.
func (f format) encode(values []float32) []byte {
	if len(values)%f.elements != 0 {
		panic(fmt.Sprintf("%d values do not fill blocks of %d", len(values), f.elements))
	}

	data := make([]byte, len(values)/f.elements*f.bytes)
	for i := range len(values) / f.elements {
		f.quantize(data[i*f.bytes:(i+1)*f.bytes], values[i*f.elements:(i+1)*f.elements])
	}
	return data
}

// decode returns the values that encode's bytes stand for.
func (f format) decode(data []byte) []float32 {
	values := make([]float32, len(data)/f.bytes*f.elements)
	for i := range len(data) / f.bytes {
		f.dequantize(values[i*f.elements:(i+1)*f.elements], data[i*f.bytes:(i+1)*f.bytes])
	}
	return values
}

func putFloat(block []byte, x []float32) {
	binary.LittleEndian.PutUint32(block, math.Float32bits(x[0]))
}

func getFloat(x []float32, block []byte) {
	x[0] = math.Float32frombits(binary.LittleEndian.Uint32(block))
}

func putHalf(block []byte, x []float32) { storeHalf(block, x[0]) }

func getHalf(x []float32, block []byte) { x[0] = loadHalf(block) }

// Q8_0: a scale, then 32 signed bytes.

func quantizeQ80(block []byte, x []float32) {
	d := storeHalf(block, abs(extreme(x))/127)
	for i, v := range x {
		block[2+i] = byte(int8(nearest(v, d, -127, 127)))
	}
}

func dequantizeQ80(x []float32, block []byte) {
	d := loadHalf(block)
	for i := range x {
		x[i] = d * float32(int8(block[2+i]))
	}
}

// Q4_0: a scale, then 32 numbers from 0 to 15 that stand for -8 to 7. As in all blocks
// of 32 numbers of four bits, the lower halves of the 16 bytes come first.

func quantizeQ40(block []byte, x []float32) {
	d := storeHalf(block, extreme(x)/-8)
	packNibbles(block[2:], x, func(v float32) byte { return byte(8 + nearest(v, d, -8, 7)) })
}

func dequantizeQ40(x []float32, block []byte) {
	d := loadHalf(block)
	unpackNibbles(x, block[2:], func(q byte) float32 { return d * (float32(q) - 8) })
}

// Q4_1: a scale and an offset, then 32 numbers from 0 to 15.

func quantizeQ41(block []byte, x []float32) {
	least, most := bounds(x)
	d := storeHalf(block, (most-least)/15)
	m := storeHalf(block[2:], least)
	packNibbles(block[4:], x, func(v float32) byte { return byte(nearest(v-m, d, 0, 15)) })
}

func dequantizeQ41(x []float32, block []byte) {
	d := loadHalf(block)
	m := loadHalf(block[2:])
	unpackNibbles(x, block[4:], func(q byte) float32 { return d*float32(q) + m })
}

// Q4_K and Q5_K: eight groups of 32, each with a scale and an offset of six bits, which
// two more scales multiply. The numbers' lower four bits follow in the order of
// nibbles64, after Q5_K's upper bits: bit g of byte i belongs to element i of group g.

func quantizeQ4K(block []byte, x []float32) {
	numbers := quantizeGroups(block[:16], x, 15)
	for i := range 4 {
		nibbles64(block[16+32*i:], numbers[64*i:])
	}
}

func dequantizeQ4K(x []float32, block []byte) {
	groups := readGroups(block)
	for i := range x {
		x[i] = groups[i/32].value(nibble64(block[16:], i))
	}
}

func quantizeQ5K(block []byte, x []float32) {
	numbers := quantizeGroups(block[:16], x, 31)
	clear(block[16:48])
	for i := range numbers {
		block[16+i%32] |= numbers[i] >> 4 << (i / 32)
	}
	for i := range 4 {
		nibbles64(block[48+32*i:], numbers[64*i:])
	}
}

func dequantizeQ5K(x []float32, block []byte) {
	groups := readGroups(block)
	for i := range x {
		upper := block[16+i%32] >> (i / 32) & 1
		x[i] = groups[i/32].value(nibble64(block[48:], i) | upper<<4)
	}
}

// A group is 32 elements of a block of Q4_K or Q5_K: scale*number - offset.
type group struct{ scale, offset float32 }

func (g group) value(number byte) float32 { return g.scale*float32(number) - g.offset }

// quantizeGroups writes the head of a block, its scales, and returns its numbers.
func quantizeGroups(head []byte, x []float32, most int) (numbers [256]byte) {
	var scales, offsets [8]float32
	for g := range 8 {
		low, high := bounds(x[32*g : 32*g+32])
		low = min(low, 0)
		scales[g] = (high - low) / float32(most)
		offsets[g] = -low
	}

	d := storeHalf(head, extreme(scales[:])/63)
	m := storeHalf(head[2:], extreme(offsets[:])/63)
	clear(head[4:16])
	for g := range 8 {
		packScale(head[4:16], g, byte(nearest(scales[g], d, 0, 63)), byte(nearest(offsets[g], m, 0, 63)))
	}

	groups := readGroups(head)
	for i, v := range x {
		g := groups[i/32]
		numbers[i] = byte(nearest(v+g.offset, g.scale, 0, most))
	}
	return numbers
}

// packScale writes the six bits of a group's scale and of its offset. Those of the last
// four groups are in the upper bits that the first four leave free.
func packScale(b []byte, g int, scale, offset byte) {
	if g < 4 {
		b[g] |= scale
		b[g+4] |= offset
		return
	}
	b[g+4] |= scale&15 | offset&15<<4
	b[g-4] |= scale >> 4 << 6
	b[g] |= offset >> 4 << 6
}

func readGroups(head []byte) (groups [8]group) {
	d := loadHalf(head)
	m := loadHalf(head[2:])
	b := head[4:16]
	for g := range groups {
		var scale, offset byte
		if g < 4 {
			scale = b[g] & 63
			offset = b[g+4] & 63
		} else {
			scale = b[g+4]&15 | b[g-4]>>6<<4
			offset = b[g+4]>>4 | b[g]>>6<<4
		}
		groups[g] = group{d * float32(scale), m * float32(offset)}
	}
	return groups
}

// Q6_K: sixteen groups of 16 with a signed scale each. The numbers, from -32 to 31, lie
// with 32 added: four bits in 128 bytes, two in 64, then the scales, and one more.

func quantizeQ6K(block []byte, x []float32) {
	var scales [16]float32
	for g := range scales {
		scales[g] = extreme(x[16*g:16*g+16]) / -32
	}

	d := storeHalf(block[208:], abs(extreme(scales[:]))/127)
	clear(block[:192])
	for i, v := range x {
		g := i / 16
		scale := nearest(scales[g], d, -127, 127)
		block[192+g] = byte(int8(scale))
		number := byte(32 + nearest(v, d*float32(scale), -32, 31))
		lower, upper, shift4, shift2 := placeQ6K(i)
		block[lower] |= number & 15 << shift4
		block[upper] |= number >> 4 << shift2
	}
}

func dequantizeQ6K(x []float32, block []byte) {
	d := loadHalf(block[208:])
	for i := range x {
		lower, upper, shift4, shift2 := placeQ6K(i)
		number := block[lower]>>shift4&15 | block[upper]>>shift2&3<<4
		x[i] = d * float32(int8(block[192+i/16])) * (float32(number) - 32)
	}
}

// placeQ6K says where the bits of an element of Q6_K are. Each half of a block has 64
// bytes for four bits of its 128 elements, and 32 for the other two.
func placeQ6K(i int) (lower, upper, shift4, shift2 int) {
	half := i / 128
	j := i % 128
	return 64*half + j%64, 128 + 32*half + j%32, 4 * (j / 64), 2 * (j / 32)
}

// iq4 are the values of IQ4_XS, which lie closer together around zero.
var iq4 = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// IQ4_XS: a scale, eight more of six bits with 32 added, whose upper bits are in two
// bytes and whose lower ones in four, then eight groups of 32 numbers of iq4.

func quantizeIQ4XS(block []byte, x []float32) {
	var scales [8]float32
	for g := range scales {
		scales[g] = extreme(x[32*g:32*g+32]) / -127
	}

	d := storeHalf(block, abs(extreme(scales[:]))/31)
	clear(block[2:8])
	var upper uint16
	for g := range scales {
		scale := 32 + nearest(scales[g], d, -32, 31)
		upper |= uint16(scale) >> 4 << (2 * g)
		block[4+g/2] |= byte(scale) & 15 << (4 * (g % 2))
		packNibbles(block[8+16*g:], x[32*g:32*g+32], func(v float32) byte {
			return closest(v, func(q byte) float32 { return d * float32(scale-32) * float32(iq4[q]) })
		})
	}
	binary.LittleEndian.PutUint16(block[2:], upper)
}

func dequantizeIQ4XS(x []float32, block []byte) {
	d := loadHalf(block)
	upper := binary.LittleEndian.Uint16(block[2:])
	for g := range 8 {
		lower := block[4+g/2] >> (4 * (g % 2)) & 15
		scale := int(lower) | int(upper>>(2*g)&3)<<4
		unpackNibbles(x[32*g:32*g+32], block[8+16*g:], func(q byte) float32 {
			return d * float32(scale-32) * float32(iq4[q])
		})
	}
}

// fp4 are the values of four bits: a sign, two bits of exponent, one of mantissa.
var fp4 = [16]float32{0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6}

// MXFP4: a power of two by its exponent, with 127 added, then 32 numbers of fp4.

func quantizeMXFP4(block []byte, x []float32) {
	_, exponent := math.Frexp(float64(extreme(x)))
	block[0] = byte(max(0, exponent-1-2+127)) // the greatest is then 4 to 8, and 6 the most that there is
	power := powerMXFP4(block[0])
	packNibbles(block[1:], x, func(v float32) byte {
		return closest(v, func(q byte) float32 { return power * fp4[q] })
	})
}

func dequantizeMXFP4(x []float32, block []byte) {
	power := powerMXFP4(block[0])
	unpackNibbles(x, block[1:], func(q byte) float32 { return power * fp4[q] })
}

func powerMXFP4(exponent byte) float32 { return float32(math.Ldexp(1, int(exponent)-127)) }

// packNibbles writes 32 numbers of four bits.
func packNibbles(b []byte, x []float32, number func(float32) byte) {
	for i := range 16 {
		b[i] = number(x[i]) | number(x[i+16])<<4
	}
}

func unpackNibbles(x []float32, b []byte, value func(byte) float32) {
	for i := range 16 {
		x[i] = value(b[i] & 15)
		x[i+16] = value(b[i] >> 4)
	}
}

// nibbles64 writes the lower four bits of 64 numbers: of the first 32 below those of the others.
func nibbles64(b []byte, numbers []byte) {
	for i := range 32 {
		b[i] = numbers[i]&15 | numbers[i+32]<<4
	}
}

// nibble64 reads what nibbles64 has written, for as many times 64 numbers.
func nibble64(b []byte, i int) byte { return b[i/64*32+i%32] >> (i / 32 % 2 * 4) & 15 }

// nearest returns v/scale as a whole number within bounds, 0 for a scale of 0.
func nearest(v, scale float32, least, most int) int {
	if scale == 0 {
		return max(0, least)
	}
	return max(least, min(most, int(math.RoundToEven(float64(v)/float64(scale)))))
}

// closest returns which of 16 numbers has the value closest to v, the first of equals.
func closest(v float32, value func(byte) float32) (best byte) {
	for q := range byte(16) {
		if abs(value(q)-v) < abs(value(best)-v) {
			best = q
		}
	}
	return best
}

// extreme returns the value that is farthest from zero.
func extreme(x []float32) (v float32) {
	for _, e := range x {
		if abs(e) > abs(v) {
			v = e
		}
	}
	return v
}

func bounds(x []float32) (least, most float32) {
	least = x[0]
	most = x[0]
	for _, v := range x {
		least = min(least, v)
		most = max(most, v)
	}
	return least, most
}

func abs(v float32) float32 { return float32(math.Abs(float64(v))) }

// storeHalf writes a float16, and returns what it holds after rounding.
func storeHalf(b []byte, v float32) float32 {
	binary.LittleEndian.PutUint16(b, half(v))
	return loadHalf(b)
}

func loadHalf(b []byte) float32 { return fromHalf(binary.LittleEndian.Uint16(b)) }

// half rounds to the nearest float16, of two to the even one.
func half(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	magnitude := bits & 0x7fffffff
	switch {
	case magnitude > 0x7f800000: // not a number
		return sign | 0x7e00
	case magnitude >= 0x477ff000: // 65520 and above
		return sign | 0x7c00
	case magnitude < 0x38800000: // below 2^-14, in steps of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(magnitude))*(1<<24)))
	}
	magnitude += 0xfff + magnitude>>13&1
	return sign | uint16(magnitude>>13-(127-15)<<10)
}

func fromHalf(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent := uint32(h >> 10 & 31)
	mantissa := uint32(h & 1023)
	switch exponent {
	case 0:
		v := float32(mantissa) / (1 << 24)
		return math.Float32frombits(sign | math.Float32bits(v))
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | mantissa<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | mantissa<<13)
}
