package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// engine is the bare engine: llama-batched-bench, which decodes without a server and draws nothing.
type engine struct {
	path    string
	model   string
	threads int
}

// engineRow is what it says of prompts and answers of so many sequences.
type engineRow struct {
	Prefill float64 `json:"speed_pp"` // tokens/s
	Decode  float64 `json:"speed_tg"` // tokens/s
	Seconds float64 `json:"t"`        // of prompts and answers
}

// run computes prompts of so many tokens, one for each client, and then their answers at the same time.
func (e *engine) run(ctx context.Context, clients, prompt, answer int) (row engineRow, err error) {
	size := (prompt+answer+64)*clients + 256
	for range 5 {
		out, err := exec.CommandContext(ctx, e.path, "-m", e.model, "-c", strconv.Itoa(size),
			"-npp", strconv.Itoa(prompt), "-ntg", strconv.Itoa(answer), "-npl", strconv.Itoa(clients),
			"-t", strconv.Itoa(e.threads), "--output-format", "jsonl").Output()
		if err != nil {
			return row, fmt.Errorf("llama-batched-bench: %w", err)
		}
		if row, ok := parseEngine(out); ok {
			return row, nil
		}
		// A short run may end before its logger has written the row.
	}
	return row, fmt.Errorf("llama-batched-bench: no row for %d prompts of %d tokens", clients, prompt)
}

var engineLine = regexp.MustCompile(`(?m)^\{"n_kv_max.*\}$`)

func parseEngine(out []byte) (row engineRow, ok bool) {
	err := json.Unmarshal(engineLine.Find(out), &row)
	return row, err == nil && row.Seconds > 0
}
