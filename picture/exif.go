package picture

import (
	"bytes"
	"encoding/binary"
)

// Cameras store the image as the sensor sees it, with its orientation in the Exif data. Go's
// decoders leave the rotation to their caller.

// exifMark precedes Exif data in JPEG files, and in some WebP files.
const exifMark = "Exif\x00\x00"

// orientation returns the Exif orientation of a file of a type, 1 to 8; 1, upright, if it has none.
func orientation(kind string, data []byte) int {
	var exif []byte
	switch kind {
	case "image/jpeg":
		exif = jpegExif(data)
	case "image/png":
		exif = pngExif(data)
	case "image/webp":
		exif = webpExif(data)
	}
	return max(exifOrientation(exif), 1)
}

// jpegExif returns the Exif data of a JPEG file, or nil.
func jpegExif(data []byte) (exif []byte) {
	segments(data, func(marker byte, segment []byte) bool {
		if marker == markAPP1 && bytes.HasPrefix(segment, []byte(exifMark)) {
			exif = segment
		}
		return exif == nil && marker != markSOS
	})
	return exif
}

// pngExif returns the Exif data of a PNG file, or nil. It may be before the image's data, or after it.
func pngExif(data []byte) []byte {
	const signature, around = 8, 12 // length, type and checksum of a chunk
	for at := signature; at+around <= len(data); {
		size := uint64(binary.BigEndian.Uint32(data[at:]))
		if size > uint64(len(data)-at-around) {
			break
		}
		if string(data[at+4:at+8]) == "eXIf" {
			return data[at+8 : at+8+int(size)]
		}
		at += around + int(size)
	}
	return nil
}

// webpExif returns the Exif data of a WebP file, or nil.
func webpExif(data []byte) []byte {
	const header, around = 12, 8 // type and length of a chunk
	for at := header; at+around <= len(data); {
		size := uint64(binary.LittleEndian.Uint32(data[at+4:]))
		if size > uint64(len(data)-at-around) {
			break
		}
		if string(data[at:at+4]) == "EXIF" {
			return data[at+around : at+around+int(size)]
		}
		at += around + int(size+size%2)
	}
	return nil
}

// exifOrientation reads the orientation in the first directory of Exif data, which is
// a TIFF file; 0 if there is none.
func exifOrientation(exif []byte) int {
	const tag, entrySize = 0x0112, 12
	tiff := bytes.TrimPrefix(exif, []byte(exifMark))
	if len(tiff) < 8 {
		return 0
	}

	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 0
	}

	directory := uint64(order.Uint32(tiff[4:]))
	if directory+2 > uint64(len(tiff)) {
		return 0
	}

	entries := tiff[directory+2:]
	for range order.Uint16(tiff[directory:]) {
		if len(entries) < entrySize {
			return 0
		}
		if n := order.Uint16(entries[8:]); order.Uint16(entries) == tag && n >= 1 && n <= 8 {
			return int(n)
		}
		entries = entries[entrySize:]
	}

	return 0
}

// turn rotates or flips an image with an Exif orientation so that it is upright.
func (m *RGB) turn(orientation int) *RGB {
	if orientation <= 1 {
		return m
	}

	out := &RGB{m.Width, m.Height, make([]byte, len(m.Pixels))}
	if orientation >= 5 { // rows and columns are swapped
		out.Width, out.Height = m.Height, m.Width
	}

	right := m.Width - 1
	bottom := m.Height - 1
	for y := range out.Height {
		for x := range out.Width {
			var fromX, fromY int
			switch orientation {
			case 2:
				fromX = right - x
				fromY = y
			case 3:
				fromX = right - x
				fromY = bottom - y
			case 4:
				fromX = x
				fromY = bottom - y
			case 5:
				fromX = y
				fromY = x
			case 6:
				fromX = y
				fromY = bottom - x
			case 7:
				fromX = right - y
				fromY = bottom - x
			case 8:
				fromX = right - y
				fromY = x
			}
			to := 3 * (y*out.Width + x)
			from := 3 * (fromY*m.Width + fromX)
			copy(out.Pixels[to:to+3], m.Pixels[from:from+3])
		}
	}

	return out
}
