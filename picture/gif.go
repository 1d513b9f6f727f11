package picture

// frames counts the images in a GIF file, which may be truncated.
func frames(data []byte) int {
	const header, extension, descriptor = 13, 0x21, 0x2c
	if len(data) < header {
		return 0
	}

	n := 0
	at := header + colorTable(data[10])
	for at < len(data) {
		switch data[at] {
		case extension:
			at += 2
		case descriptor:
			if at+10 > len(data) {
				return n
			}
			n++
			at += 10 + colorTable(data[at+9]) + 1
		default:
			return n
		}
		for at < len(data) && data[at] > 0 {
			at += 1 + int(data[at])
		}
		at++
	}

	return n
}

// colorTable returns the size in bytes of the color table according to flags.
func colorTable(flags byte) int {
	if flags&0x80 == 0 {
		return 0
	}
	return 3 << (flags&7 + 1)
}
