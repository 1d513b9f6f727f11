package picture

import (
	"bytes"
	"encoding/binary"
)

// Cameras store the image as the sensor sees it, with its orientation in the Exif data. Go's
// decoder leaves the rotation to its caller.

// orientation returns the Exif orientation of a JPEG file, 1 to 8; 1, upright, if it has
// none.
func orientation(data []byte) int {
	const app1, startOfScan = 0xe1, 0xda
	for at := 2; at+4 <= len(data) && data[at] == 0xff && data[at+1] != startOfScan; {
		size := int(binary.BigEndian.Uint16(data[at+2:])) // including these two bytes
		end := at + 2 + size
		if size < 2 || end > len(data) {
			break
		}
		if data[at+1] == app1 {
			if n := exifOrientation(data[at+4 : end]); n > 0 {
				return n
			}
		}
		at = end
	}
	return 1
}

// exifOrientation reads the orientation in the first directory of Exif data, which is
// a TIFF file; 0 if there is none.
func exifOrientation(exif []byte) int {
	const tag, entrySize = 0x0112, 12
	tiff, ok := bytes.CutPrefix(exif, []byte("Exif\x00\x00"))
	if !ok || len(tiff) < 8 {
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
