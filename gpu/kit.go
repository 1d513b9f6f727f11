package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"serve/models/testmodel"
)

// stage is a part of the work. One that has not begun when the time is nearly over is left out.
type stage struct {
	name  string
	about string
	least time.Duration // that it takes
	do    func(ctx context.Context, k *kit) error
}

// backendSampling is serve that draws tokens on the GPU, which it does not by itself before that was seen to work.
const backendSampling = "flags:--backend-sampling on"

var stages = []stage{
	{"machine", "the machine, and what serve doctor says of it", 5 * time.Second, machine},
	{"rows", "the rows of docs/gpu.md", 10 * time.Second, tryRows},
	{"8b", "an 8B at 1, 8 and 64 clients", 45 * time.Second,
		speedOf("8b", "1,8,64", 2, "tuned", "tuned-bs", "one-buffer", backendSampling, "bare")},
	{"8b-256", "an 8B at 256 clients", 45 * time.Second, speedOf("8b", "256", 1, "tuned-bs", backendSampling, "bare")},
	{"8b-gaps", "a prompt of 4000 tokens beside 8 streams of an 8B", 20 * time.Second, gapsOf("8b")},
	{"8b-agent", "conversations that take turns, more of them than slots, with an 8B", 30 * time.Second, agentOf("8b")},
	{"1b", "a 1B at 1, 64 and 256 clients", 30 * time.Second,
		speedOf("1b", "1,64,256", 2, "tuned-bs", "one-buffer", backendSampling, "bare")},
}

func stageNames() (list []string) {
	for _, s := range stages {
		list = append(list, s.name)
	}
	return list
}

// kit is a run.
type kit struct {
	*options
	work  string // folder for models and what servers keep
	begin time.Time
	log   io.Writer
	meter *meter

	device  string // what the driver calls the GPU; empty if there is none
	results results
	written map[string]string // models' files by their shapes
}

// results are what is kept as JSON.
type results struct {
	Device   string         `json:"device"`
	Started  time.Time      `json:"started"`
	Rehearse bool           `json:"rehearse,omitempty"`
	Machine  []string       `json:"machine"`
	Rows     []rowResult    `json:"rows"`
	Speeds   []speed        `json:"speeds"`
	Left     []string       `json:"left_out"`
	Stages   []stageSeconds `json:"stages"`
}

type stageSeconds struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Watts   watts   `json:"watts"`
	Error   string  `json:"error,omitempty"`
}

// left is how much time there is.
func (k *kit) left() time.Duration { return k.limit - time.Since(k.begin) }

func (k *kit) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(k.log, "[%6.1f] %s\n", time.Since(k.begin).Seconds(), strings.TrimRight(text, "\n"))
}

// leave notes what is not done, and why.
func (k *kit) leave(what, why string) {
	k.say("left out: %s: %s", what, why)
	k.results.Left = append(k.results.Left, what+": "+why)
}

// run does the chosen stages, and writes what came of them after each.
func (k *kit) run(ctx context.Context) error {
	k.results.Started = k.begin.UTC().Truncate(time.Second)
	k.results.Rehearse = k.rehearse
	k.written = map[string]string{}
	k.device = deviceName(ctx)
	k.results.Device = k.device
	if k.device == "" && !k.rehearse {
		return errors.New("nvidia-smi names no GPU; -rehearse does without one")
	}

	ctx, cancel := context.WithDeadline(ctx, k.begin.Add(k.limit))
	defer cancel()
	var failed []error
	for _, name := range k.stages {
		for _, s := range stages {
			if s.name == name {
				failed = append(failed, k.stage(ctx, s))
			}
		}
		if err := k.write(); err != nil {
			return err
		}
	}
	k.say("done")
	return errors.Join(failed...)
}

func (k *kit) stage(ctx context.Context, s stage) error {
	if k.left() < s.least && !k.rehearse || ctx.Err() != nil {
		k.leave(s.about, "the time is over")
		return nil
	}
	k.say("%s: %s", s.name, s.about)

	begin := time.Now()
	err := s.do(ctx, k)
	done := stageSeconds{Name: s.name, Seconds: time.Since(begin).Seconds(), Watts: k.meter.between(begin, time.Now())}
	if err != nil {
		done.Error = err.Error()
		k.say("%s: failed: %v", s.name, err)
		err = fmt.Errorf("%s: %w", s.name, err)
	}
	k.results.Stages = append(k.results.Stages, done)
	return err
}

// write writes the results so far.
func (k *kit) write() error {
	data, err := json.MarshalIndent(k.results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(k.out, "results.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(k.out, "report.md"), []byte(k.results.markdown(k.price)), 0o644)
}

// model returns the file of a model of a shape, which is written when it is first asked for.
func (k *kit) model(shape string) (string, error) {
	name := shape
	if k.rehearse {
		shape = "tiny"
	}
	if path := k.written[name]; path != "" {
		return path, nil
	}

	begin := time.Now()
	path := filepath.Join(k.work, name+".gguf")
	if err := testmodel.WriteShape(path, testmodel.Shapes[shape]); err != nil {
		return "", err
	}
	k.say("wrote %s in %.1f s", name, time.Since(begin).Seconds())
	k.written[name] = path
	return path, nil
}
