package engine_test

import (
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
)

// copies is a Next that repeats a prompt of 128 tokens.
func copies(tokens []engine.Token) engine.Token { return tokens[len(tokens)-128] }

// misleading is a Next in which the same few tokens come again and again, and something else after them.
func misleading(tokens []engine.Token) engine.Token { return 'a' + enginetest.Hash(tokens)%3 }

// edits is a Next that repeats a prompt of 128 tokens, other than about every eighth of them.
func edits(tokens []engine.Token) engine.Token {
	if h := enginetest.Hash(tokens); h%8 == 0 {
		return h
	}
	return tokens[len(tokens)-128]
}

// TestSimulatedDrafts compares devices with and without guesses: where answers repeat their prompts they are faster, if
// there is anything to gain, and nothing is slower where they do not.
func TestSimulatedDrafts(t *testing.T) {
	tests := []struct {
		device  enginetest.Device
		clients int
		shared  bool
		copies  float64 // times as fast as without guesses at least, where answers are copies
		edits   float64
	}{
		{device: h100, clients: 1, copies: 3, edits: 1.4},
		{device: h100, clients: 8, copies: 1.3, edits: 1.1},
		{device: h100, clients: 8, shared: true, copies: 1.2, edits: 1.1},
		{device: laptop, clients: 1, copies: 3, edits: 1.5},
		{device: epyc, clients: 1, copies: 1.3, edits: 1.05},
		{device: epyc, clients: 8, copies: 0.98, edits: 0.98},
		{device: xeon, clients: 1, copies: 1.3, edits: 1.05},
		{device: xeon, clients: 4, copies: 0.98, edits: 0.98},
		{device: tiny, clients: 1, copies: 1, edits: 0.98},
		{device: slow, clients: 1, copies: 1.5, edits: 1.1},
	}
	for _, tt := range tests {
		for _, answers := range []struct {
			name  string
			next  func([]engine.Token) engine.Token
			least float64
		}{
			{"copies", copies, tt.copies}, {"edits", edits, tt.edits}, {"misleading", misleading, 0.98},
			{"unlike", enginetest.Hash, 0.98},
		} {
			w := crowd(tt.clients, max(1, 4/tt.clients))
			for i := range w.clients {
				w.clients[i][0].at = micro(i) // in the same order, with and without
			}
			t.Run(tt.device.Name+", "+w.name+", "+answers.name, func(t *testing.T) {
				by := func(speculation string) *outcome {
					s := simulation{device: tt.device, workload: w, shared: tt.shared, next: answers.next, speculation: speculation}
					return s.run(t)
				}
				slow := by("off")
				fast := by(engine.SpeculationAuto)
				t.Logf("%.2f times as fast: %s, without %s", fast.rate()/slow.rate(), fast, slow)
				if fast.rate() < answers.least*slow.rate() {
					t.Errorf("%.2f times as fast, not %.2f", fast.rate()/slow.rate(), answers.least)
				}
			})
		}
	}
}
