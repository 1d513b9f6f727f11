package service

import (
	"context"
	"time"

	"serve/pool"
)

// Library manages the model files of this machine for a running server. Its methods may be called
// concurrently. Their errors are a *fault.Error if they are about the request; names are as people
// write them, without paths: a client must not make the server read a file of its choice.
type Library interface {
	// Stored describes every model on this machine, the most recently changed first.
	Stored(ctx context.Context) ([]*Facts, error)
	// Facts describes one model. The name is that of a served model, too.
	Facts(ctx context.Context, name string) (*Facts, error)
	// Open returns a model on this machine, which it checks but does not load.
	Open(ctx context.Context, name string) (*pool.Model, error)
	// Pull downloads a model, or what of it is missing, and calls report while it does, from one
	// goroutine at a time.
	Pull(ctx context.Context, name string, report func(PullProgress)) error
	// Remove deletes the files of a model.
	Remove(ctx context.Context, name string) error
	// Catalog lists the models that Pull knows by a short name.
	Catalog() *Catalog
}

// Catalog is what can be downloaded by a short name, and what this machine has room for.
type Catalog struct {
	Offline bool   // nothing can be downloaded
	Memory  uint64 // of this machine, or of this process's control group, in bytes; 0 if unknown
	Models  []CatalogModel
}

// CatalogModel is a model with a short name. What is unknown is zero.
type CatalogModel struct {
	Name         string   `json:"name"`
	Aliases      []string `json:"aliases"`
	Kinds        []string `json:"kinds"` // chat, vision, embedding, …
	Use          string   `json:"use"`   // what it is for, in a few words
	License      string   `json:"license"`
	Quantization string   `json:"quantization"`
	Context      int      `json:"context"`      // tokens that it was trained for
	Bytes        int64    `json:"bytes"`        // of its files
	Memory       int64    `json:"memory_bytes"` // for one request at a time of up to 8192 tokens
}

// Facts are what the files of a model say of it. They are read-only. What is unknown is zero.
type Facts struct {
	Name         string // the ID of a served model
	SHA256       string // of the weights, in hex
	Bytes        int64  // of all files
	Modified     time.Time
	License      string
	LicenseText  string
	Architecture string
	Parameters   uint64
	Quantization string
	Context      int // tokens that the model was trained for
	Embedding    int // floats of an embedding
	Template     string
	Embeds       bool // it makes embeddings, or ranks, and writes no text
	Sees         bool // it has a projector for images
	FillsMiddle  bool // the file names the tokens for filling in the middle

	Header    map[string]any    // scalar values by key: uint64, int64, float64, bool or string
	Arrays    map[string]uint64 // lengths of the array values by key
	Projector map[string]any    // scalar values of the projector's header
}

// PullProgress is how a download goes on.
type PullProgress struct {
	File   string // its name
	SHA256 string // of the file, in hex; empty if the Hub gives none
	Bytes  int64  // of the file
	Done   int64  // of Bytes
	Note   string // why nothing advances, in place of all the others
}
