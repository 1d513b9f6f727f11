package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"strings"
)

// Digest returns the SHA-256 of a model's weights: of the file, which is hashed if the Hub has not said
// it, or of the digests of its parts, one a line.
func (l *Local) Digest(ctx context.Context) (string, error) {
	var sums []string
	for _, f := range l.Weights {
		sum := f.SHA256
		if sum == "" {
			var err error
			if sum, err = hashFile(ctx, f.Name); err != nil {
				return "", err
			}
		}
		sums = append(sums, sum)
	}
	if len(sums) == 1 {
		return sums[0], nil
	}
	sum := sha256.Sum256([]byte(strings.Join(sums, "\n") + "\n"))
	return hex.EncodeToString(sum[:]), nil
}

func hashFile(ctx context.Context, name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()

	h := sha256.New()
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", context.Cause(ctx)
}
