package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"serve/bench/launch"
	"serve/loadgen"
)

// row is one of docs/gpu.md: what is tried, and how one would try it by hand.
type row struct {
	about   string
	command string
	gpu     bool // whether it says something only where there is one
	try     func(ctx context.Context, k *kit) (seen string, err error)
}

// rowResult is what came of a row. Left is why it was left out.
type rowResult struct {
	About   string  `json:"about"`
	Command string  `json:"command"`
	Seen    string  `json:"seen"`
	Failed  string  `json:"failed,omitempty"`
	Left    string  `json:"left_out,omitempty"`
	Seconds float64 `json:"seconds"`
}

func (r *rowResult) text() string {
	switch {
	case r.Left != "":
		return "left out: " + r.Left
	case r.Failed != "":
		return strings.TrimPrefix(r.Seen+"; failed: "+r.Failed, "; ")
	}
	return r.Seen
}

var rows = []row{
	{"all layers are offloaded by default", "serve 8b.gguf", true, allLayers},
	{"some layers are offloaded if not all fit", "serve 8b.gguf --memory-reserve SIZE", true, someLayers},
	{"a given number of layers", "serve 1b.gguf --gpu-layers 10", true, tenLayers},
	{"no layer", "serve 1b.gguf --gpu-layers 0", true, noLayer},
	{"KV type q8_0", "serve 1b.gguf --kv-type q8_0", false, answers("--kv-type", "q8_0")},
	{"KV type q4_0", "serve 1b.gguf --kv-type q4_0", false, answers("--kv-type", "q4_0")},
	{"no GPU is visible", "CUDA_VISIBLE_DEVICES= serve 1b.gguf", true, noneVisible},
	{"nobody can be connected to", "serve 1b.gguf --offline", false, answers("--offline")},
	{"another user", "setpriv --reuid 65534 --regid 65534 --clear-groups serve 1b.gguf", true, anotherUser},
	{"answers alone, in a crowd, and on the CPU", "serve demo", false, sameAnswers},
	{"tokens drawn on the GPU and on the CPU", "serve demo --backend-sampling on", false, sameDraws},
	{"the engine is killed under load", "serve demo", false, killedEngine},
}

// tryRows tries each row, and notes what it saw.
func tryRows(ctx context.Context, k *kit) error {
	const least = 8 * time.Second
	failed := 0
	for _, r := range rows {
		if !strings.HasPrefix(r.about, k.only) {
			continue
		}

		res := rowResult{About: r.about, Command: r.command}
		begin := time.Now()
		switch {
		case r.gpu && k.device == "":
			res.Left = "there is no GPU"
		case k.left() < least && !k.rehearse:
			res.Left = "the time is over"
		default:
			seen, err := r.try(ctx, k)
			res.Seen = seen
			if err != nil {
				res.Failed = err.Error()
				failed++
			}
		}

		res.Seconds = time.Since(begin).Seconds()
		k.say("row: %s (%.1f s): %s", res.About, res.Seconds, res.text())
		k.results.Rows = append(k.results.Rows, res)
	}

	if failed > 0 {
		return fmt.Errorf("%d rows failed", failed)
	}
	return nil
}

// machine describes the machine, and asks serve doctor, which computes on each device in the sandbox.
func machine(ctx context.Context, k *kit) error {
	for _, command := range []string{
		"nvidia-smi --query-gpu=name,memory.total,memory.free,driver_version,power.limit --format=csv,noheader",
		"lscpu | grep -E '^(Model name|CPU\\(s\\))'",
		"uname -r",
	} {
		out, _ := exec.CommandContext(ctx, "sh", "-c", command).Output() // what is not there says nothing
		for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			if line != "" {
				k.note("%s", line)
			}
		}
	}

	out, err := exec.CommandContext(ctx, filepath.Join(k.bin, "serve"), "doctor", "--json").Output()
	var findings []struct{ About, Severity, Seen string }
	if wrong := json.Unmarshal(out, &findings); wrong != nil {
		return fmt.Errorf("serve doctor: %w", errors.Join(err, wrong))
	}
	of := []string{"processor", "compute", "gpu", "memory", "landlock"}
	for _, f := range findings {
		if f.Severity != "ok" || slices.Contains(of, f.About) {
			k.note("doctor: %s: %s: %s", f.Severity, f.About, f.Seen)
		}
	}
	if err != nil {
		return fmt.Errorf("serve doctor: %w", err)
	}
	return nil
}

// note adds to what is known of the machine.
func (k *kit) note(format string, args ...any) {
	k.say(format, args...)
	k.results.Machine = append(k.results.Machine, fmt.Sprintf(format, args...))
}

// status is what a server says of its model.
type status struct {
	Devices []struct{ Name, Description string }
	Why     string `json:"why_processor"`
	Memory  []struct {
		Device  string
		Planned uint64 `json:"planned_bytes"`
		Taken   uint64 `json:"taken_bytes"`
	}
}

// names are those of the devices that compute.
func (s *status) names() (list []string) {
	for _, d := range s.Devices {
		list = append(list, d.Name)
	}
	return list
}

// onGPU reports whether another device than the CPU computes.
func (s *status) onGPU() bool {
	return slices.ContainsFunc(s.names(), func(name string) bool { return name != "CPU" })
}

// memory describes what was planned and what is taken on each device, and is an error where these differ.
func (s *status) memory() (string, error) {
	const bound = 0.05
	var parts []string
	var errs []error
	for _, m := range s.Memory {
		parts = append(parts, fmt.Sprintf("%s %.2f GiB planned, %.2f taken", m.Device, gib(m.Planned), gib(m.Taken)))
		if over := float64(m.Taken) - float64(m.Planned)*(1+bound); m.Planned > 0 && over > 0 {
			errs = append(errs, fmt.Errorf("%s: more than %.0f %% over the plan", m.Device, 100*bound))
		}
	}
	return strings.Join(parts, "; "), errors.Join(errs...)
}

func gib(bytes uint64) float64 { return float64(bytes) / (1 << 30) }

// trial is a server with a model, and what it says of it.
type trial struct {
	*launch.Server
	status
	ready time.Duration
}

// start starts serve. It is stopped by the caller.
func (k *kit) start(model string, env []string, flags ...string) (*trial, error) {
	args := slices.Concat([]string{model, "--threads", fmt.Sprint(k.threads)}, flags)
	return k.launch(launch.Command{Name: "serve", Path: filepath.Join(k.bin, "serve"), Args: args, Env: env})
}

func (k *kit) launch(command launch.Command) (*trial, error) {
	begin := time.Now()
	s, err := command.Start()
	if err != nil {
		return nil, err
	}
	t := &trial{Server: s, ready: time.Since(begin)}
	res, err := http.Get(s.Client.URL + "/status")
	if err != nil {
		s.Stop()
		return nil, err
	}
	defer res.Body.Close()

	var all struct{ Models []status }
	err = json.NewDecoder(res.Body).Decode(&all)
	if err == nil && len(all.Models) == 0 {
		err = errors.New("it has no model")
	}
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("/status: %w", err)
	}
	t.status = all.Models[0]
	return t, nil
}

// greedy asks for an answer of so many tokens.
func (t *trial) greedy(ctx context.Context, prompt string, tokens int, event func(time.Time)) (string, error) {
	return t.ask(ctx, prompt, tokens, map[string]any{"temperature": 0}, event)
}

// ask does the same with fields of the request.
func (t *trial) ask(
	ctx context.Context, prompt string, tokens int, fields map[string]any, event func(time.Time),
) (string, error) {
	a, err := t.Client.Ask(ctx, loadgen.Call{
		Model:  t.Model,
		Prompt: prompt,
		Tokens: tokens,
		Chat:   true,
		Fields: fields,
		Event:  event,
	})
	if err == nil && a.Answered == 0 {
		err = errors.New("the answer is empty")
	}
	return a.Text, err
}

// tryModel starts a model of a shape, lets look say what is wrong with it, and asks it something.
func (k *kit) tryModel(
	ctx context.Context, shape string, env, flags []string, look func(*trial) (string, error),
) (string, error) {
	model, err := k.model(shape)
	if err != nil {
		return "", err
	}
	t, err := k.start(model, env, flags...)
	if err != nil {
		return "", err
	}
	defer t.Stop()
	return t.look(ctx, look)
}

func (t *trial) look(ctx context.Context, look func(*trial) (string, error)) (string, error) {
	seen, err := look(t)
	seen = fmt.Sprintf("%s; ready in %.1f s; %s", strings.Join(t.names(), ", "), t.ready.Seconds(), seen)
	if err != nil {
		return seen, err
	}
	begin := time.Now()
	if _, err := t.greedy(ctx, "hello there", 16, nil); err != nil {
		return seen, err
	}
	return fmt.Sprintf("%s; 16 tokens in %.2f s", seen, time.Since(begin).Seconds()), nil
}

var errNotOnGPU = errors.New("no GPU computes")

func allLayers(ctx context.Context, k *kit) (string, error) {
	return k.tryModel(ctx, "8b", nil, nil, func(t *trial) (string, error) {
		seen, err := t.memory()
		if !t.onGPU() {
			err = errors.Join(err, errNotOnGPU)
		}
		return seen, err
	})
}

// someLayers leaves 3 GiB of the device.
func someLayers(ctx context.Context, k *kit) (string, error) {
	const room = 3 << 10
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--id=0", "--query-gpu=memory.free",
		"--format=csv,noheader,nounits").Output()
	var free int
	if _, scan := fmt.Sscan(string(out), &free); err != nil || scan != nil {
		return "", errors.Join(err, scan)
	}
	reserve := fmt.Sprintf("%dMiB", free-room)
	return k.tryModel(ctx, "8b", nil, []string{"--memory-reserve", reserve}, func(t *trial) (string, error) {
		seen, err := t.memory()
		if !t.onGPU() || len(t.Devices) < 2 {
			err = errors.Join(err, errors.New("not both the GPU and the CPU compute"))
		}
		return "--memory-reserve " + reserve + ": " + seen, err
	})
}

func tenLayers(ctx context.Context, k *kit) (string, error) {
	return k.tryModel(ctx, "1b", nil, []string{"--gpu-layers", "10"}, func(t *trial) (string, error) {
		seen, err := t.memory()
		if !t.onGPU() || len(t.Devices) < 2 {
			err = errors.Join(err, errors.New("not both the GPU and the CPU compute"))
		}
		return seen, err
	})
}

func noLayer(ctx context.Context, k *kit) (string, error) {
	return k.tryModel(ctx, "1b", nil, []string{"--gpu-layers", "0"}, onCPU)
}

// onCPU wants a reason for that no GPU computes.
func onCPU(t *trial) (string, error) {
	if t.onGPU() || t.Why == "" {
		return t.Why, errors.New("a GPU computes, or nothing says why none does")
	}
	return t.Why, nil
}

func noneVisible(ctx context.Context, k *kit) (string, error) {
	return k.tryModel(ctx, "1b", []string{"CUDA_VISIBLE_DEVICES="}, nil, onCPU)
}

// answers is a row in which a GPU computes, if there is one, with some flags.
func answers(flags ...string) func(context.Context, *kit) (string, error) {
	return func(ctx context.Context, k *kit) (string, error) {
		return k.tryModel(ctx, "1b", nil, flags, k.onItsDevice)
	}
}

func (k *kit) onItsDevice(t *trial) (string, error) {
	seen, err := t.memory()
	if k.device != "" && !t.onGPU() {
		err = errors.Join(err, errNotOnGPU)
	}
	return seen, err
}

// anotherUser is nobody, who has a folder of its own.
func anotherUser(ctx context.Context, k *kit) (string, error) {
	const nobody = 65534
	model, err := k.model("1b")
	if err != nil {
		return "", err
	}
	home := filepath.Join(k.work, "nobody")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", err
	}
	if err := os.Chown(home, nobody, nobody); err != nil {
		return "", err
	}

	id := fmt.Sprint(nobody)
	t, err := k.launch(launch.Command{
		Name: "serve",
		Path: "setpriv",
		Args: []string{"--reuid", id, "--regid", id, "--clear-groups", filepath.Join(k.bin, "serve"), model,
			"--threads", fmt.Sprint(k.threads)},
		Env: []string{"SERVE_HOME=" + home, "HOME=" + home},
	})
	if err != nil {
		return "", err
	}
	defer t.Stop()
	return t.look(ctx, k.onItsDevice)
}
