package models

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"serve/hub"
	"serve/models/demo"
)

// findDemo returns the built-in model. Engines open files, so it is written to Home, and
// from then on treated like any other model.
func (s *Store) findDemo(r *Reference) (*Local, error) {
	sum := sha256.Sum256([]byte(demo.GGUF))
	hash := hex.EncodeToString(sum[:])
	path := filepath.Join(s.Home, "demo", hash[:16]+".gguf")
	// Reading it takes as long as hashing it: a file that has been touched is written again.
	if b, err := os.ReadFile(path); err != nil || string(b) != demo.GGUF {
		if err := hub.WriteFile(path, []byte(demo.GGUF), 0o600); err != nil {
			return nil, &Error{
				Kind: err,
				Text: fmt.Sprintf("the demo model cannot be written to %s: %v", filepath.Dir(path), err),
				Todo: "set SERVE_HOME to a writable folder",
			}
		}
	}
	f := hub.File{Path: demo.Name + ".gguf", Size: int64(len(demo.GGUF)), SHA256: hash}
	return &Local{
		Name:    r.Text,
		Demo:    true,
		Quant:   "Q8_0",
		License: demo.License,
		Weights: []hub.CachedFile{{File: f, Name: path}},
	}, nil
}
