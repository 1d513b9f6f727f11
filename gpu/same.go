package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// questions are what the demo knows something about.
var questions = []string{
	"What is serve?", "Who are you?", "How do I start a model?", "Where are models stored?", "Can I use a GPU?",
	"What is a GGUF file?", "Does anything leave my machine?", "How do I stop the server?", "Which APIs are there?",
	"How do I use it with Python?", "What does --offline do?", "How do I list my models?", "What is a quantization?",
	"How much memory do I need?", "Hello!", "Which model should I take?",
}

const crowd = 64

// sameAnswers compares greedy answers of the demo: alone, among 63 others, and with the CPU.
func sameAnswers(ctx context.Context, k *kit) (string, error) {
	t, err := k.start("demo", nil, "--parallel", fmt.Sprint(crowd))
	if err != nil {
		return "", err
	}
	defer t.Stop()
	alone := make([]string, len(questions))
	for i, q := range questions {
		if alone[i], err = t.greedy(ctx, q, 64, nil); err != nil {
			return "", err
		}
	}

	together, err := t.together(ctx, crowd, func(i int) string { return questions[i%len(questions)] }, 64, nil)
	if err != nil {
		return "", err
	}
	inCrowd := 0
	for i, text := range together {
		if text == alone[i%len(alone)] {
			inCrowd++
		}
	}

	cpu, err := k.start("demo", nil, "--gpu-layers", "0")
	if err != nil {
		return "", err
	}
	defer cpu.Stop()
	onCPU := 0
	for i, q := range questions {
		text, err := cpu.greedy(ctx, q, 64, nil)
		if err != nil {
			return "", err
		}
		if text == alone[i] {
			onCPU++
		}
	}

	seen := fmt.Sprintf("%d of %d are the same among 63 others as alone, and %d of %d on the CPU", inCrowd, crowd, onCPU,
		len(questions))
	if inCrowd < crowd {
		return seen, errors.New("an answer depends on the others")
	}
	return seen, nil
}

// sameDraws compares answers of which tokens are drawn at random, by seeds, on the device that computes them and on the
// CPU. Rounding may decide otherwise once in a while, so most must be the same.
func sameDraws(ctx context.Context, k *kit) (string, error) {
	var texts [2][]string
	for way, flag := range []string{"on", "off"} {
		t, err := k.start("demo", nil, "--backend-sampling", flag)
		if err != nil {
			return "", err
		}
		for i, q := range questions {
			var text string
			text, err = t.ask(ctx, q, 48, map[string]any{"temperature": 1, "top_p": 0.95, "top_k": 40, "seed": i}, nil)
			if err != nil {
				break
			}
			texts[way] = append(texts[way], text)
		}
		t.Stop()
		if err != nil {
			return "", err
		}
	}

	same := 0
	for i := range questions {
		if texts[0][i] == texts[1][i] {
			same++
		}
	}
	seen := fmt.Sprintf("%d of %d answers at temperature 1 are the same", same, len(questions))
	if same < len(questions)*3/4 {
		return seen, errors.New("they are drawn otherwise")
	}
	return seen, nil
}

// together asks n prompts at the same time.
func (t *trial) together(
	ctx context.Context, n int, prompt func(int) string, tokens int, event func(int, time.Time),
) ([]string, error) {
	texts := make([]string, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			texts[i], errs[i] = t.greedy(ctx, prompt(i), tokens, func(at time.Time) {
				if event != nil {
					event(i, at)
				}
			})
		})
	}
	wg.Wait()
	return texts, errors.Join(errs...)
}

// killedEngine kills the engine while streams run: they go on where they were.
func killedEngine(ctx context.Context, k *kit) (string, error) {
	const begun = 4 // events of the stream that is first, when the engine is killed
	n := len(questions)
	t, err := k.start("demo", nil, "--parallel", fmt.Sprint(n))
	if err != nil {
		return "", err
	}
	defer t.Stop()
	question := func(i int) string { return questions[i] }
	before, err := t.together(ctx, n, question, 64, nil)
	if err != nil {
		return "", err
	}

	var killer sync.WaitGroup
	var killed error
	kill := sync.OnceFunc(func() { killer.Go(func() { killed = t.CrashEngine() }) })
	streams := make([]stream, n)
	after, err := t.together(ctx, n, question, 64, func(i int, at time.Time) {
		if streams[i].add(at) == begun {
			kill()
		}
	})
	kill() // should no answer have been so long
	killer.Wait()
	if err := errors.Join(err, killed); err != nil {
		return "", err
	}

	same := 0
	gap := time.Duration(0)
	for i := range after {
		gap = max(gap, streams[i].gap)
		if after[i] == before[i] {
			same++
		}
	}
	seen := fmt.Sprintf("%d of %d answers are those of an engine that lives, the longest gap was %.1f s", same, n,
		gap.Seconds())
	if same < n {
		return seen, errors.New("an answer is another one after the engine's death")
	}
	return seen, nil
}

// stream is what is seen of an answer while it comes.
type stream struct {
	events int
	last   time.Time
	gap    time.Duration // the longest between two events
}

// add counts an event, and returns how many there have been.
func (s *stream) add(at time.Time) int {
	if s.events > 0 {
		s.gap = max(s.gap, at.Sub(s.last))
	}
	s.last = at
	s.events++
	return s.events
}
