package main

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// deviceName is what the driver calls the first GPU; empty if there is none.
func deviceName(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=name", "--format=csv,noheader").Output()
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(name)
}

// meter reads the power that the first GPU takes, several times a second.
type meter struct {
	stop func()

	mu      sync.Mutex
	samples []sample
}

type sample struct {
	at    time.Time
	watts float64
}

// watts are the mean and the greatest of the samples of some time; zeros if there are none.
type watts struct {
	Mean float64 `json:"mean"`
	Most float64 `json:"most"`
}

func startMeter(ctx context.Context) *meter {
	ctx, cancel := context.WithCancel(ctx)
	m := &meter{stop: cancel}
	cmd := exec.CommandContext(ctx, "nvidia-smi", "--id=0", "--query-gpu=power.draw",
		"--format=csv,noheader,nounits", "-lms", "250")
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return m // without a driver there is no power to read
	}

	ended := make(chan struct{})
	go func() {
		m.read(out)
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	m.stop = func() {
		cancel()
		<-ended
	}
	return m
}

// read takes a sample from each line that is a number.
func (m *meter) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		v, err := strconv.ParseFloat(strings.TrimSpace(lines.Text()), 64)
		if err != nil {
			continue
		}
		m.mu.Lock()
		m.samples = append(m.samples, sample{time.Now(), v})
		m.mu.Unlock()
	}
}

func (m *meter) between(from, to time.Time) (w watts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, s := range m.samples {
		if s.at.Before(from) || s.at.After(to) {
			continue
		}
		n++
		w.Mean += (s.watts - w.Mean) / float64(n)
		w.Most = max(w.Most, s.watts)
	}
	return w
}
