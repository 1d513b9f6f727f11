package hostmem

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
)

// SumPiece is the size in bytes of the pieces of which a checksum is made: all but the last are as long.
const SumPiece = 4 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the sum of the sums of pieces, which processors compute at the same time.
func Checksum(b []byte) uint32 {
	sums := make([]byte, 4*((len(b)+SumPiece-1)/SumPiece))
	var all sync.WaitGroup
	for i := range len(sums) / 4 {
		all.Go(func() {
			part := b[i*SumPiece : min((i+1)*SumPiece, len(b))]
			binary.LittleEndian.PutUint32(sums[4*i:], crc32.Checksum(part, castagnoli))
		})
	}
	all.Wait()
	return crc32.Checksum(sums, castagnoli)
}

// Sum computes a Checksum of pieces that come one after the other.
type Sum struct{ sums []byte }

// Add adds the next piece.
func (s *Sum) Add(piece []byte) {
	s.sums = binary.LittleEndian.AppendUint32(s.sums, crc32.Checksum(piece, castagnoli))
}

// Value returns the checksum of the pieces.
func (s *Sum) Value() uint32 { return crc32.Checksum(s.sums, castagnoli) }
