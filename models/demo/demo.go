// Package demo contains the model that is served when none is named: a tiny one that
// knows about serve and nothing else. README.md describes its training.
package demo

import _ "embed"

// Name is the model's name in requests.
const Name = "demo"

// License is the license of the weights and of the training text, all of which are ours.
const License = "mit"

// GGUF is the file.
//
//go:embed demo.gguf
var GGUF string
