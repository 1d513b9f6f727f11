package engine_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
)

// device says how long a machine computes, in virtual time: a table of tokens in a graph and the time that they
// take, and a line between two rows of it.
type device struct {
	tokens []int
	took   []time.Duration
	graph  int // tokens at most
}

// h100 is an H100 with an 8B in Q4_K_M, as measured on 26 November 2026.
var h100 = device{
	tokens: []int{1, 8, 64, 256, 512},
	took: []time.Duration{
		4200 * time.Microsecond,
		8700 * time.Microsecond,
		14800 * time.Microsecond,
		44500 * time.Microsecond,
		52500 * time.Microsecond,
	},
	graph: 512,
}

// graphTime is how long a graph of n tokens takes.
func (d *device) graphTime(n int) time.Duration {
	i, found := slices.BinarySearch(d.tokens, n)
	if found || i == 0 {
		return d.took[i]
	}
	part := float64(n-d.tokens[i-1]) / float64(d.tokens[i]-d.tokens[i-1])
	return d.took[i-1] + time.Duration(part*float64(d.took[i]-d.took[i-1]))
}

// compute waits as long as the device takes for a batch. In one buffer its tokens are cut into graphs as they come;
// with buffers of their own, sequences are computed together for as many tokens as the shortest of them has left.
func (d *device) compute(b *engine.Batch, shared bool) {
	if shared {
		d.graphs(b.Len())
		return
	}
	tokens := map[int32]int{}
	for _, seq := range b.Sequences {
		tokens[seq]++
	}
	done := 0
	for _, n := range slices.Sorted(maps.Values(tokens)) {
		left := 0
		for _, all := range tokens {
			if all > done {
				left++
			}
		}
		d.graphs((n - done) * left)
		done = n
	}
}

func (d *device) graphs(tokens int) {
	for ; tokens > 0; tokens -= d.graph {
		time.Sleep(d.graphTime(min(tokens, d.graph)))
	}
}

// crowd is clients that all ask at once, each again when it has been answered.
type crowd struct {
	clients  int
	requests int
	prompt   int
	answer   int
}

// served is what became of a crowd.
type served struct {
	took   time.Duration
	firsts []time.Duration // until each request's first token, sorted
	gap    time.Duration   // the longest between two tokens of an answer
}

func (s *served) rate(c crowd) float64 { return float64(c.requests*c.answer) / s.took.Seconds() }

// serve has an engine on a device answer a crowd. It must be called in a bubble of synctest.
func (c crowd) serve(t *testing.T, d device, shared bool, o engine.Options) *served {
	context := c.prompt + c.answer
	cells := c.clients * context
	e, _ := start(t, enginetest.Options{
		Limits: engine.Limits{Sequences: c.clients, Context: context, Cells: cells, Shared: shared, Batch: d.graph},
		BeforeDecode: func(b *engine.Batch) error {
			d.compute(b, shared)
			return nil
		},
	}, o)

	var mu sync.Mutex
	var s served
	began := time.Now()
	requests := make(chan int, c.requests)
	for i := range c.requests {
		requests <- i
	}
	close(requests)

	var clients sync.WaitGroup
	for range c.clients {
		clients.Go(func() {
			for i := range requests {
				first, gap, err := c.ask(t, e, i)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				s.firsts = append(s.firsts, first)
				s.gap = max(s.gap, gap)
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	s.took = time.Since(began)
	slices.Sort(s.firsts)
	return &s
}

// ask makes one request, whose prompt begins like no other's.
func (c crowd) ask(t *testing.T, e *engine.Engine, i int) (first, gap time.Duration, err error) {
	prompt := fmt.Sprintf("%d:%s", i, strings.Repeat("p", c.prompt))[:c.prompt]
	at := time.Now()
	stream, err := e.Generate(t.Context(), engine.Request{Prompt: tokens(prompt), MaxTokens: c.answer})
	if err != nil {
		return 0, 0, err
	}
	for last := at; ; {
		events, err := stream.Next(t.Context())
		if err != nil || events == nil {
			return first, gap, err
		}
		now := time.Now()
		if first == 0 {
			first = now.Sub(at)
		} else {
			gap = max(gap, now.Sub(last))
		}
		last = now
	}
}

// TestGapFillsDevice: where a step is short whatever it holds, prompts must not come in crumbs. Without a gap that
// streams may always have, 64 clients of an H100 get 464 tokens a second and wait 9 seconds for their first.
func TestGapFillsDevice(t *testing.T) {
	if remotely {
		t.Skip("sockets have no virtual time")
	}

	const gap = 50 * time.Millisecond
	tests := []struct {
		name   string
		crowd  crowd
		shared bool
		rate   float64       // tokens a second, at least
		first  time.Duration // for half of the requests, at most
	}{
		{"alone", crowd{clients: 1, requests: 4, prompt: 163, answer: 128}, false, 220, 50 * time.Millisecond},
		{"eight", crowd{clients: 8, requests: 16, prompt: 163, answer: 128}, false, 700, 200 * time.Millisecond},
		{"64", crowd{clients: 64, requests: 64, prompt: 163, answer: 128}, false, 1700, 1500 * time.Millisecond},
		{"64 in one buffer", crowd{clients: 64, requests: 64, prompt: 163, answer: 128}, true, 2400, time.Second},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := tt.crowd.serve(t, h100, tt.shared, engine.Options{Gap: gap})
				rate := s.rate(tt.crowd)
				first := s.firsts[len(s.firsts)/2]
				t.Logf("%.0f tokens/s, half have their first token after %s, the longest gap is %s", rate, first, s.gap)
				if rate < tt.rate {
					t.Errorf("%.0f tokens/s, not %.0f", rate, tt.rate)
				}
				if first > tt.first {
					t.Errorf("half have their first token after %s, not %s", first, tt.first)
				}
				if s.gap > 2*gap {
					t.Errorf("a gap of %s", s.gap)
				}
			})
		})
	}
}
