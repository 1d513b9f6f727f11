package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// speed is what one contender of bench reached in one scenario.
type speed struct {
	Model     string             `json:"model"`
	Scenario  string             `json:"scenario"`
	Contender string             `json:"contender"`
	Figures   map[string]float64 `json:"figures"` // medians
	Ratios    map[string]float64 `json:"ratios"`  // how much better serve is
	Units     map[string]string  `json:"units"`
	Watts     watts              `json:"watts"`
	Failed    string             `json:"failed,omitempty"`
}

// throughput is the figure by which costs are worked out.
const throughput = "output"

// tokensOf is how many tokens prompts and answers have.
const tokensOf = 128

// speedOf measures clients whose prompts are all different.
func speedOf(shape, clients string, rounds int, beside ...string) func(context.Context, *kit) error {
	return func(ctx context.Context, k *kit) error {
		wanted := clients
		if k.rehearse {
			wanted = "1,3"
		}
		return k.bench(ctx, shape, strings.Join(beside, ","), "-workloads", "crowd", "-clients", wanted,
			"-rounds", strconv.Itoa(rounds), "-requests", "1", "-prompt", k.short(tokensOf), "-tokens", k.short(tokensOf))
	}
}

func gapsOf(shape string) func(context.Context, *kit) error {
	return func(ctx context.Context, k *kit) error {
		return k.bench(ctx, shape, "tuned-bs", "-workloads", "gaps", "-rounds", "1",
			"-long-prompt", k.short(4000))
	}
}

func agentOf(shape string) func(context.Context, *kit) error {
	return func(ctx context.Context, k *kit) error {
		return k.bench(ctx, shape, "tuned-bs", "-workloads", "agent", "-rounds", "1", "-conversations", "12",
			"-history", k.short(2000), "-turns", "3", "-tokens", k.short(tokensOf))
	}
}

// short is a number of tokens, which is less in a rehearsal.
func (k *kit) short(tokens int) string {
	if k.rehearse {
		tokens = max(tokens/40, 16)
	}
	return strconv.Itoa(tokens)
}

// benchReports are what is read of bench's results.
type benchReports struct {
	Reports []struct {
		Results []benchResult
	}
}

type benchResult struct {
	Name    string
	Metrics []struct {
		Name string
		Unit string
	}
	Notes      []string
	Contenders []struct {
		Name   string
		Values map[string]struct{ Median float64 }
		Ratios map[string]struct{ Median float64 }
		Times  []struct{ From, To time.Time }
		Failed string
	}
}

// bench runs the program of that name with a model, and keeps its results.
func (k *kit) bench(ctx context.Context, shape, beside string, args ...string) error {
	const ending = 10 * time.Second // for a round that has begun, and for what ends after it
	model, err := k.model(shape)
	if err != nil {
		return err
	}
	results := filepath.Join(k.work, "bench.json")
	if err := os.RemoveAll(results); err != nil {
		return err
	}
	args = slices.Concat(args, []string{
		"-beside", cmp.Or(k.beside, beside), "-serve", filepath.Join(k.bin, "serve"), "-peers", k.peers,
		"-threads", strconv.Itoa(k.threads), "-for", max(k.left()-ending, time.Second).String(), "-seed", "7",
		"-json", results, model,
	})
	k.say("bench %s", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, filepath.Join(k.bin, "bench"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that it ends the servers
	cmd.WaitDelay = ending
	cmd.Stdout = k.log
	cmd.Stderr = k.log
	failed := cmd.Run() // what it has measured by then is kept

	data, err := os.ReadFile(results)
	if err != nil {
		return fmt.Errorf("bench has no results: %w", failed)
	}
	var read benchReports
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	for _, report := range read.Reports {
		for i := range report.Results {
			k.keep(shape, &report.Results[i])
		}
	}
	return failed
}

// keep adds what a scenario gave.
func (k *kit) keep(model string, r *benchResult) {
	for _, note := range r.Notes {
		k.leave(model+", "+r.Name, note)
	}

	for _, c := range r.Contenders {
		s := speed{
			Model:     model,
			Scenario:  r.Name,
			Contender: c.Name,
			Figures:   map[string]float64{},
			Ratios:    map[string]float64{},
			Units:     map[string]string{},
			Failed:    c.Failed,
		}

		for _, m := range r.Metrics {
			s.Units[m.Name] = m.Unit
		}
		for name, v := range c.Values {
			s.Figures[name] = v.Median
		}
		for name, v := range c.Ratios {
			s.Ratios[name] = v.Median
		}

		if n := len(c.Times); n > 0 {
			s.Watts = k.meter.between(c.Times[n-1].From, c.Times[n-1].To)
		}
		k.results.Speeds = append(k.results.Speeds, s)
	}
}

// dollars is what a million tokens cost at a price for an hour.
func dollars(tokensPerSecond, hour float64) float64 { return hour / 3600 / tokensPerSecond * 1e6 }
