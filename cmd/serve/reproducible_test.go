package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"serve/engine/llama"
	"serve/kernels"
	"serve/models/testmodel"
)

// TestReproducible asks the same alone, in crowds, while the engine is killed, and of another server with other threads
// and slots: not one bit of a probability differs.
func TestReproducible(t *testing.T) {
	model := filepath.Join(t.TempDir(), "tiny.gguf")
	// Each head attends to many tokens, so that another order of additions shows.
	o := testmodel.Options{Width: 256, Hidden: 256, Type: "Q8_0", Attention: 0.1}
	if err := testmodel.Write(model, o); err != nil {
		t.Fatal(err)
	}
	bodies := reproducibleBodies(12, 40)
	flags := []string{model, "--alias", "it", "--ctx-size", "512", "--reproducible"}

	r := startServe(t, append(flags, "--parallel", "8", "--threads", "1")...)
	alone := r.answers(t, bodies, 1, nil)
	sameAnswers(t, "in a crowd of 8", alone, r.answers(t, bodies, 8, nil))
	killed := 0
	kill := func(answered int) {
		if answered%5 == 2 {
			killed++
			if err := r.killEngine(); err != nil {
				t.Error(err)
			}
		}
	}
	sameAnswers(t, "while the engine is killed", alone, r.answers(t, bodies, 8, kill))
	if killed == 0 {
		t.Error("the engine was never killed")
	}

	other := startServe(t, append(flags, "--parallel", "3", "--threads", "2")...)
	sameAnswers(t, "of another server", alone[:4], other.answers(t, bodies[:4], 4, nil))
}

// TestReproducibleLong is TestReproducible with a model that REPRODUCIBLE names: 64 prompts of 400 tokens, in crowds of
// 8 and 64, with the engine killed every two seconds, and by a server that was started anew, with each of the kernels
// that this machine can run. It says what share of the answers turns without --reproducible.
func TestReproducibleLong(t *testing.T) {
	model := os.Getenv("REPRODUCIBLE")
	if model == "" {
		t.Skip("make reproducible runs this")
	}
	names := kernels.Usable(llama.Kernels(), nil)
	if given := os.Getenv("REPRODUCIBLE_KERNELS"); given != "" {
		names = strings.Split(given, ",")
	}
	bodies := reproducibleBodies(64, 400)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			flags := []string{model, "--alias", "it", "--ctx-size", "1024", "--kernels", name}
			held := append(slices.Clone(flags), "--reproducible")
			r := startServe(t, append(held, "--parallel", "8")...)
			alone := r.answers(t, bodies, 1, nil)
			sameAnswers(t, "in a crowd of 8", alone, r.answers(t, bodies, 8, nil))
			sameAnswers(t, "killed every 2 s", alone, r.answersKilled(t, bodies, 8, 2*time.Second))
			r.stop()

			r = startServe(t, append(held, "--parallel", "64")...)
			sameAnswers(t, "of another process, in a crowd of 64", alone, r.answers(t, bodies, 64, nil))
			r.stop()

			r = startServe(t, append(flags, "--parallel", "64")...)
			without := r.answers(t, bodies, 1, nil)
			for _, crowd := range []int{8, 64} {
				turned := 0
				for i, got := range r.answers(t, bodies, crowd, nil) {
					if got.text != without[i].text {
						turned++
					}
				}
				t.Logf("without --reproducible, %d of %d answers turn in a crowd of %d", turned, len(bodies), crowd)
			}
			r.stop()
		})
	}
}

// reproducibleBodies are requests for answers of so many tokens: greedy ones, and seeded ones. Some begin alike.
func reproducibleBodies(n, tokens int) (bodies []string) {
	for i := range n {
		sampling := `"temperature":0`
		if i%2 == 1 {
			sampling = fmt.Sprintf(`"temperature":0.9,"top_p":0.95,"seed":%d`, i)
		}
		prompt := strings.Repeat("Once upon a time there was a small house by the sea. ", i%3*4) + fmt.Sprintf("Story %d:", i)
		bodies = append(bodies, fmt.Sprintf(
			`{"model":"it","prompt":%q,"max_tokens":%d,"ignore_eos":true,"logprobs":2,%s}`, prompt, tokens, sampling))
	}
	return bodies
}

// reproducedAnswer is what is compared of an answer.
type reproducedAnswer struct {
	text    string
	choices string // with the probabilities
}

// answers asks all bodies, so many at the same time. After, if not nil, is told how many have been answered, by one
// goroutine at a time.
func (r *running) answers(t *testing.T, bodies []string, crowd int, after func(answered int)) []reproducedAnswer {
	t.Helper()
	answers := make([]reproducedAnswer, len(bodies))
	var next atomic.Int64
	var clients sync.WaitGroup
	var mu sync.Mutex
	answered := 0
	for range crowd {
		clients.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(bodies); i = next.Add(1) - 1 {
				answers[i] = r.reproduced(t, bodies[i])
				mu.Lock()
				if answered++; after != nil {
					after(answered)
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return answers
}

// answersKilled is answers while the engine is killed at intervals.
func (r *running) answersKilled(t *testing.T, bodies []string, crowd int, every time.Duration) []reproducedAnswer {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		killed := 0
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if r.killEngine() == nil { // the server may have ended
					killed++
				}
			case <-ctx.Done():
				done <- killed
				return
			}
		}
	}()
	answers := r.answers(t, bodies, crowd, nil)
	stop()
	if killed := <-done; killed == 0 {
		t.Error("the engine was never killed")
	} else {
		t.Logf("the engine was killed %d times", killed)
	}
	return answers
}

// reproduced asks once.
func (r *running) reproduced(t *testing.T, body string) (a reproducedAnswer) {
	status, text := r.post(t, "/v1/completions", body)
	var answer struct{ Choices json.RawMessage }
	var choices []struct{ Text string }
	err := json.Unmarshal([]byte(text), &answer)
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal(answer.Choices, &choices)
	}
	if err != nil || len(choices) != 1 || choices[0].Text == "" {
		t.Errorf("%d %s (%v)", status, text, err)
		return a
	}
	return reproducedAnswer{text: choices[0].Text, choices: string(answer.Choices)}
}

// sameAnswers compares answers bit by bit.
func sameAnswers(t *testing.T, how string, want, got []reproducedAnswer) {
	t.Helper()
	turned := 0
	differ := 0
	for i := range want {
		if got[i].text != want[i].text {
			turned++
		}
		if got[i].choices != want[i].choices {
			differ++
		}
	}
	if differ > 0 {
		t.Errorf("%s, %d of %d answers have other probabilities, and %d say something else", how, differ, len(want), turned)
	}
	t.Logf("%s: %d answers compared", how, len(want))
}
