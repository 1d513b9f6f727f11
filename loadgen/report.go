package loadgen

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"time"
)

// Report has the results of a run. Times are in seconds.
type Report struct {
	Model    string    `json:"model"`
	URL      string    `json:"url"`
	Started  time.Time `json:"started"`
	Workload Workload  `json:"workload"`

	Seconds  float64        `json:"seconds"` // from the first request to the last answer
	Answered int            `json:"answered"`
	Refused  int            `json:"refused"` // with 429 or 503
	Failed   int            `json:"failed"`
	Left     int            `json:"left"` // not sent, or abandoned, because the run was stopped
	Errors   map[string]int `json:"errors,omitempty"`

	PromptTokens    int     `json:"prompt_tokens"`
	CachedTokens    int     `json:"cached_tokens"`
	AnswerTokens    int     `json:"answer_tokens"`
	TokensPerSecond float64 `json:"tokens_per_second"` // of all answers together
	PromptPerSecond float64 `json:"prompt_tokens_per_second"`
	PerSecond       float64 `json:"requests_per_second"`

	First    Distribution `json:"first_token_seconds"`
	Gap      Distribution `json:"gap_seconds"`       // between two events of an answer
	PerToken Distribution `json:"per_token_seconds"` // of an answer, after its first token
	Whole    Distribution `json:"answer_seconds"`

	Server *ServerSide `json:"server,omitempty"` // the server's own metrics for the same time
}

// Distribution is a distribution of times in seconds.
type Distribution struct {
	Count int     `json:"count"`
	Mean  float64 `json:"mean"`
	Min   float64 `json:"min"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
	Bins  []Bin   `json:"bins,omitempty"` // in order, without empty ones
}

// Bin counts the times of at least From and less than To.
type Bin struct {
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Count int     `json:"count"`
}

// binsPerDoubling is the resolution of a distribution's bins: each is a tenth wider than the last.
const binsPerDoubling = 8

func distribution(times []float64) (d Distribution) {
	if len(times) == 0 {
		return d
	}

	slices.Sort(times)
	sum := 0.0
	counts := map[int]int{}
	for _, t := range times {
		sum += t
		counts[int(math.Floor(math.Log2(max(t, 1e-9))*binsPerDoubling))]++
	}

	at := func(part float64) float64 {
		return times[min(len(times)-1, int(math.Ceil(part*float64(len(times))))-1)]
	}

	d = Distribution{
		Count: len(times),
		Mean:  sum / float64(len(times)),
		Min:   times[0],
		P50:   at(0.5),
		P90:   at(0.9),
		P99:   at(0.99),
		Max:   times[len(times)-1],
	}
	keys := make([]int, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}

	slices.Sort(keys)
	for _, k := range keys {
		d.Bins = append(
			d.Bins, Bin{math.Exp2(float64(k) / binsPerDoubling), math.Exp2(float64(k+1) / binsPerDoubling), counts[k]},
		)
	}
	return d
}

// summarize makes a report of samples.
func summarize(samples []sample, took time.Duration) *Report {
	r := &Report{Seconds: took.Seconds(), Errors: map[string]int{}}
	var firsts, gaps, perToken, wholes []float64
	for _, s := range samples {
		var no *StatusError
		switch {
		case s.err == nil:
		case errors.Is(s.err, context.Canceled), errors.Is(s.err, context.DeadlineExceeded):
			r.Left++
			continue
		case errors.As(s.err, &no) && (no.Status == 429 || no.Status == 503):
			r.Refused++
			r.Errors[s.err.Error()]++
			continue
		default:
			r.Failed++
			r.Errors[s.err.Error()]++
			continue
		}
		a := s.answer
		r.Answered++
		r.PromptTokens = r.PromptTokens + a.Prompt
		r.CachedTokens = r.CachedTokens + a.Cached
		r.AnswerTokens = r.AnswerTokens + a.Answered
		wholes = append(wholes, a.Took.Seconds())
		if a.Events > 0 {
			firsts = append(firsts, a.First.Seconds())
		}
		for _, g := range a.Gaps {
			gaps = append(gaps, g.Seconds())
		}
		if t := a.PerToken(); t > 0 {
			perToken = append(perToken, t)
		}
	}
	if s := r.Seconds; s > 0 {
		r.TokensPerSecond = float64(r.AnswerTokens) / s
		r.PromptPerSecond = float64(r.PromptTokens) / s
		r.PerSecond = float64(r.Answered) / s
	}

	r.First = distribution(firsts)
	r.Gap = distribution(gaps)
	r.PerToken = distribution(perToken)
	r.Whole = distribution(wholes)
	return r
}

// maxReport limits what ReadReport reads.
const maxReport = 64 << 20

// ReadReport reads a Report that was written as JSON.
func ReadReport(in io.Reader) (*Report, error) {
	var r Report
	if err := json.NewDecoder(io.LimitReader(in, maxReport)).Decode(&r); err != nil {
		return nil, err
	}
	if r.Model == "" {
		return nil, errors.New("it has no model name")
	}
	return &r, nil
}
