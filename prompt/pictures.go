package prompt

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"

	"serve/engine"
)

// Picture is a run of tokens of a prompt that an image takes, or a tile of one.
type Picture struct {
	Offset int
	Length int
	Hash   string // of what the model sees of it, in hexadecimal digits
}

// Pictures returns where images are in the prompt, in order. It calls pause now and then, since images are large.
func (p *Prompt) Pictures(pause func()) []Picture {
	var list []Picture
	at := 0
	for _, m := range p.media {
		for at < len(p.Tokens) && p.Tokens[at] != m.ID {
			at++
		}
		list = append(list, Picture{Offset: at, Length: m.Len, Hash: hashMedia(m, pause)})
		at += m.Len
	}
	return list
}

func hashMedia(m *engine.Media, pause func()) string {
	const piece = 16 << 10 // embeddings' numbers
	sum := sha256.New()
	b := make([]byte, 0, 4*piece)
	for part := range slices.Chunk(m.Embeddings, piece) {
		b = b[:0]
		for _, x := range part {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		sum.Write(b)
		pause()
	}
	return hex.EncodeToString(sum.Sum(nil))
}
