package models

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// HeaderFacts are the facts about a model from its header.
type HeaderFacts struct {
	Architecture   string         `json:"architecture"`
	Parameters     uint64         `json:"parameters"`
	TrainContext   int            `json:"train_context"`
	Tensors        int            `json:"tensors"`
	TemplateSHA256 string         `json:"chat_template_sha256,omitempty"`
	Template       string         `json:"chat_template,omitempty"`
	Header         map[string]any `json:"header"`
}

// templateKey begins the keys of chat templates.
const templateKey = "tokenizer.chat_template"

// Facts describes the header's model.
func (h *Header) Facts() HeaderFacts {
	f := HeaderFacts{
		Architecture: h.Architecture(),
		TrainContext: h.TrainContext(),
		Tensors:      len(h.Tensors),
		Template:     h.String(templateKey),
		Header:       map[string]any{},
	}
	for _, t := range h.Tensors {
		n := uint64(1)
		for _, d := range t.Dims {
			n *= d
		}
		f.Parameters += n
	}
	if f.Template != "" {
		sum := sha256.Sum256([]byte(f.Template))
		f.TemplateSHA256 = hex.EncodeToString(sum[:])
	}

	for key, v := range h.Values {
		if !strings.HasPrefix(key, templateKey) {
			f.Header[key] = v
		}
	}
	for key, n := range h.ArrayLengths {
		f.Header[key] = fmt.Sprintf("array of %d", n)
	}
	return f
}
