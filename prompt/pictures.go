package prompt

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"

	"serve/engine"
)

// Picture is a run of tokens of a prompt that an image takes, or a tile of one.
type Picture struct {
	Offset int
	Length int
	Hash   string // of what the model sees of it, in hexadecimal digits
}

// Pictures returns where images are in the prompt, in order.
func (p *Prompt) Pictures() []Picture {
	var list []Picture
	at := 0
	for _, m := range p.media {
		for at < len(p.Tokens) && p.Tokens[at] != m.ID {
			at++
		}
		list = append(list, Picture{Offset: at, Length: m.Len, Hash: hashMedia(m)})
		at += m.Len
	}
	return list
}

func hashMedia(m *engine.Media) string {
	sum := sha256.New()
	var b [4]byte
	for _, x := range m.Embeddings {
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(x))
		sum.Write(b[:])
	}
	return hex.EncodeToString(sum.Sum(nil))
}
