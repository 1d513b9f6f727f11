package loadgen

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Run is one measurement.
type Run struct {
	Client   *Client
	Model    string
	Workload Workload
	Requests []Request // Workload.Plan(), or those of a trace
	// Done, unless nil, is called when a request ends, never concurrently.
	Done func(ended, of int)
}

// sample is the result of one request.
type sample struct {
	sent   time.Duration // since the beginning
	answer Answer
	err    error
}

// Do sends the requests and reports the results. If ctx ends first, it reports the requests
// that have ended by then, together with ctx's error.
func (r *Run) Do(ctx context.Context) (*Report, error) {
	w, fields, err := r.calibrate(ctx)
	if err != nil {
		return nil, err
	}
	before, _ := r.Client.scrape(ctx, r.Model) // not every server has them
	started := time.Now()
	samples := r.offer(ctx, w, fields)
	took := time.Since(started)
	report := summarize(samples, took)
	report.Model = r.Model
	report.URL = r.Client.root()
	report.Started = started.UTC()
	report.Workload = r.Workload
	if before != nil && ctx.Err() == nil {
		if after, err := r.Client.scrape(ctx, r.Model); err == nil {
			report.Server = after.since(before)
		}
	}
	if ctx.Err() != nil {
		return report, context.Cause(ctx)
	}
	return report, nil
}

// calibrate returns a writer of prompts, and the fields of requests that the server accepts. It
// also warms up the model.
func (r *Run) calibrate(ctx context.Context) (*Writer, map[string]any, error) {
	fields := map[string]any{"temperature": 0}
	if !r.Workload.Natural {
		fields["ignore_eos"] = true
	}

	w, err := r.Client.Calibrate(ctx, Call{Model: r.Model, Chat: r.Workload.Chat, Fields: fields}, r.Workload.Seed)
	var no *StatusError
	if errors.As(err, &no) && strings.Contains(no.Text, "ignore_eos") {
		return nil, nil, fmt.Errorf(
			"the server does not support ignore_eos, so the model decides where answers end; run with --natural (%w)", err,
		)
	}
	return w, fields, err
}

// offer sends the requests: from clients that wait for their answers, or at given times.
func (r *Run) offer(ctx context.Context, w *Writer, fields map[string]any) []sample {
	samples := make([]sample, len(r.Requests))
	begin := time.Now()
	var mu sync.Mutex
	ended := 0
	one := func(i int) {
		q := &r.Requests[i]
		prompt := w.text(q, i)
		s := &samples[i]
		s.sent = time.Since(begin)
		s.answer, s.err = r.Client.Ask(
			ctx, Call{Model: r.Model, Prompt: prompt, Tokens: q.Answer, Chat: r.Workload.Chat, Fields: fields},
		)
		mu.Lock()
		defer mu.Unlock()
		if ended++; r.Done != nil {
			r.Done(ended, len(samples))
		}
	}

	var wg sync.WaitGroup
	if r.Workload.Clients > 0 {
		next := make(chan int)
		for range r.Workload.Clients {
			wg.Go(func() {
				for i := range next {
					one(i)
				}
			})
		}
		for i := range samples {
			select {
			case next <- i:
			case <-ctx.Done():
				samples[i].err = ctx.Err()
			}
		}
		close(next)
	} else {
		for i := range samples {
			select {
			case <-time.After(r.Requests[i].At - time.Since(begin)):
				wg.Go(func() { one(i) })
			case <-ctx.Done():
				samples[i].err = ctx.Err()
			}
		}
	}

	wg.Wait()
	return samples
}
