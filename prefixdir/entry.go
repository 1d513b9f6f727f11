package prefixdir

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"serve/engine"
	"serve/hostmem"
)

// A file is: magic, a salt, the length of the sealed header, the sealed header, and the sealed pieces of what was
// saved, each as long as hostmem.SumPiece but the last. All are sealed by AES-256-GCM with a random nonce and a key of
// the file, derived from the folder's and the salt. What is sealed with a piece is its number, 0 for the header: no
// piece can be taken for another one's, and a file that lacks some is too short for its header.
const (
	magic     = "serve prefix 1\n\x00"
	saltSize  = 32
	overhead  = 28 // of a sealed piece: nonce and tag
	beginning = len(magic) + saltSize + 4
	// Bounds of a header, so that a damaged length takes no memory.
	maxHeader = 8 << 20
	maxText   = 4096 // bytes of a tenant's name and of a salt
	maxBytes  = 1 << 44
)

// errDamaged says that a file is not as it was written, or was written with another key.
var errDamaged = errors.New("the file is damaged, or was written with another key")

// Key says for what a prefix can be used: the model's weights, and all else that decides what its cells are.
type Key struct {
	Model [32]byte // hash of the weights
	Build [32]byte // hash of what computes
	Setup [32]byte // hash of how: types and layout of cells, devices, replaced metadata
}

// header is what a file says of itself.
type header struct {
	key Key
	engine.KeptPrefix
	salt [saltSize]byte // of the file
}

// fileSize returns the size of a file whose sealed header takes so many bytes.
func fileSize(sealedHeader int, saved int64) int64 {
	pieces := (saved + hostmem.SumPiece - 1) / hostmem.SumPiece
	return int64(beginning+sealedHeader) + saved + pieces*overhead
}

// encode returns a header without its salt.
func (h *header) encode() []byte {
	b := make([]byte, 0, 3*32+64+len(h.Tenant)+len(h.Salt)+4*len(h.Tokens))
	b = append(b, h.key.Model[:]...)
	b = append(b, h.key.Build[:]...)
	b = append(b, h.key.Setup[:]...)
	flags := byte(0)
	if h.Reproducible {
		flags = 1
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Saved.Size))
	b = binary.LittleEndian.AppendUint32(b, h.Saved.Sum)
	for _, text := range []string{h.Tenant, h.Salt} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.Tokens)))
	for _, t := range h.Tokens {
		b = binary.LittleEndian.AppendUint32(b, uint32(t))
	}
	return b
}

// decoder takes a header apart.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if d.failed || n < 0 || n > len(d.b) {
		d.failed = true
		return nil
	}
	part := d.b[:n]
	d.b = d.b[n:]
	return part
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) text() string {
	n := d.u32()
	if n > maxText {
		d.failed = true
	}
	return string(d.take(int(n)))
}

// decode reads what encode returns, and nothing else.
func decode(b []byte) (*header, error) {
	d := &decoder{b: b}
	h := &header{}
	copy(h.key.Model[:], d.take(32))
	copy(h.key.Build[:], d.take(32))
	copy(h.key.Setup[:], d.take(32))
	if flags := d.take(1); flags != nil {
		h.Reproducible = flags[0] == 1
		d.failed = flags[0] > 1
	}
	h.Saved.Size = int64(d.u64())
	h.Saved.Sum = d.u32()
	h.Tenant = d.text()
	h.Salt = d.text()

	n := int(d.u32())
	if d.failed || n == 0 || len(d.b) != 4*n || h.Saved.Size <= 0 || h.Saved.Size > maxBytes {
		return nil, errDamaged
	}
	h.Tokens = make([]engine.Token, n)
	for i := range h.Tokens {
		h.Tokens[i] = engine.Token(d.u32())
		if h.Tokens[i] < 0 {
			return nil, errDamaged // an image of another process
		}
	}
	return h, nil
}

// sealer seals and opens the pieces of a file.
type sealer struct{ aead cipher.AEAD }

// newSealer returns the sealer of the file with a salt.
func newSealer(folderKey []byte, salt []byte) (*sealer, error) {
	key, err := hkdf.Key(sha256.New, folderKey, salt, magic, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead}, err
}

// number is what is sealed with a piece.
func number(i int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(i)) }

func (s *sealer) seal(to, piece []byte, i int) []byte {
	return s.aead.Seal(to[:0], nil, piece, number(i))
}

func (s *sealer) open(to, sealed []byte, i int) ([]byte, error) {
	b, err := s.aead.Open(to[:0], nil, sealed, number(i))
	if err != nil {
		return nil, errDamaged
	}
	return b, nil
}

// begin writes the beginning of a file with a header, and returns the sealer of its pieces and the size that the file
// will have.
func begin(w io.Writer, folderKey []byte, h *header) (*sealer, int64, error) {
	_, _ = rand.Read(h.salt[:])
	s, err := newSealer(folderKey, h.salt[:])
	if err != nil {
		return nil, 0, err
	}
	sealed := s.seal(nil, h.encode(), 0)
	if len(sealed) > maxHeader {
		return nil, 0, fmt.Errorf("a prefix of %d tokens", len(h.Tokens))
	}

	b := append([]byte(magic), h.salt[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(sealed)))
	_, err = w.Write(append(b, sealed...))
	return s, fileSize(len(sealed), h.Saved.Size), err
}

// readHeader reads the beginning of a file of so many bytes. What is not as begin wrote it is errDamaged.
func readHeader(r io.Reader, size int64, folderKey []byte) (*header, *sealer, error) {
	b := make([]byte, beginning)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, nil, damaged(err)
	}
	if string(b[:len(magic)]) != magic {
		return nil, nil, errDamaged
	}
	salt := b[len(magic) : len(magic)+saltSize]
	n := binary.LittleEndian.Uint32(b[len(magic)+saltSize:])
	if n > maxHeader || int64(n) > size {
		return nil, nil, errDamaged
	}

	s, err := newSealer(folderKey, salt)
	if err != nil {
		return nil, nil, err
	}
	sealed := make([]byte, n)
	if _, err := io.ReadFull(r, sealed); err != nil {
		return nil, nil, damaged(err)
	}
	plain, err := s.open(nil, sealed, 0)
	if err != nil {
		return nil, nil, err
	}
	h, err := decode(plain)
	if err != nil {
		return nil, nil, err
	}
	if fileSize(int(n), h.Saved.Size) != size {
		return nil, nil, errDamaged
	}
	copy(h.salt[:], salt)
	return h, s, nil
}

// damaged makes the end of a file that comes too early what it is.
func damaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errDamaged
	}
	return err
}
