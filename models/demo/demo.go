// Package demo carries the model that is served when none is named: a tiny one that
// knows serve, and nothing else. README.md says how it is made.
package demo

import _ "embed"

// Name is what requests call it.
const Name = "demo"

// License is of the weights, as of the text that they are made of: all of it is ours.
const License = "mit"

// GGUF is the file.
//
//go:embed demo.gguf
var GGUF string
