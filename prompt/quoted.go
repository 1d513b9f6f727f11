package prompt

import "serve/engine"

// What clients have written is quoted in a prompt: control tokens that it mentions are no such tokens to the model.
// llama.cpp's renderer says where that is (engine/llama/provenance.cpp), and these keep it when the prompt is changed.

// within returns the quoted ranges of a part of a text, in that part.
func within(quoted []engine.Range, from, to int) []engine.Range {
	var list []engine.Range
	for _, q := range quoted {
		list = appendRange(list, max(q.From, from)-from, min(q.To, to)-from)
	}
	return list
}

// appendRange adds a range that begins where the last one ends, or later. One that is empty is none.
func appendRange(list []engine.Range, from, to int) []engine.Range {
	if from >= to {
		return list
	}
	if n := len(list); n > 0 && list[n-1].To == from {
		list[n-1].To = to
		return list
	}
	return append(list, engine.Range{From: from, To: to})
}
