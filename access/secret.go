package access

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"math/big"
	"strings"
)

// Prefix is how every secret begins, so that people and scanners recognize one that has leaked.
const Prefix = "sk-serve-"

// Sizes of a secret. 43 digits to the base of 62 hold 256 bits, and 6 a CRC-32.
const (
	secretBytes = 32
	randomLen   = 43
	checkLen    = 6
	// MaxSecret is the most bytes of what a client sends as a key that are looked at: tokens of other kinds are longer.
	MaxSecret = 4096
)

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// hash is what is kept of a secret. With 256 random bits in it there is nothing to guess, so it needs no salt.
type hash [sha256.Size]byte

func hashOf(secret string) hash { return sha256.Sum256([]byte(secret)) }

// newSecret returns a secret that nobody has: the prefix, 256 random bits, and a checksum.
func newSecret() string {
	var b [secretBytes]byte
	rand.Read(b[:]) // never fails
	s := Prefix + base62(new(big.Int).SetBytes(b[:]), randomLen)
	return s + checksum(s)
}

// checksum lets those who look for leaked secrets tell one from other texts.
func checksum(s string) string {
	return base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(s)))), checkLen)
}

// base62 writes a number with a fixed number of digits.
func base62(n *big.Int, width int) string {
	text := make([]byte, width)
	base := big.NewInt(int64(len(digits)))
	rest := new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, rest)
		text[i] = digits[rest.Int64()]
	}
	return string(text)
}

// WellFormed reports whether a text has the form of a secret of this server, with the right checksum.
func WellFormed(secret string) bool {
	if len(secret) != len(Prefix)+randomLen+checkLen || !strings.HasPrefix(secret, Prefix) {
		return false
	}
	at := len(secret) - checkLen
	return checksum(secret[:at]) == secret[at:]
}
