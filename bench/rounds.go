package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"serve/bench/launch"
)

// workload is what is chosen by name. It has one scenario or more, as the model's context allows.
type workload struct {
	name      string
	scenarios func(o *options, trained int) []scenario
	byName    bool // only measured if it is named
}

// scenario is measured with one set of servers.
type scenario struct {
	name    string
	about   string
	need    need
	metrics []metric
	notes   []string // what is left out, and why

	// measure is one round at one server. Round 0 warms up, and does not count: it may be shorter.
	measure func(ctx context.Context, s *launch.Server, round int) (figures, error)

	// engine measures the bare engine; nil where it has nothing to compare.
	engine func(ctx context.Context, e *engine) (figures, error)

	serveOnly bool // whether it measures what other servers do not have
}

// metric is a figure of a scenario.
type metric struct {
	Name   string `json:"name"`
	Unit   string `json:"unit"`
	Better string `json:"better,omitempty"` // higher or lower; empty if it is shown, and not compared
}

const (
	higher = "higher"
	lower  = "lower"
)

// figures are values by the name of their metric. A server that does not report something has none.
type figures map[string]float64

// order returns the turns of n contenders in a round. No two consecutive rounds have the same order, and over a cycle
// of n rounds (2n if n is odd) each contender has each turn equally often, and each other one before it equally
// often: what one leaves of caches and clock falls on all of them (Williams' design).
func order(n, round int) []int {
	turns := make([]int, n)
	for i := range turns {
		turns[i] = (i + 1) / 2
		if i%2 == 0 {
			turns[i] = (n - i/2) % n
		}
		turns[i] = (turns[i] + round) % n
	}
	if n%2 == 1 && round/n%2 == 1 {
		slices.Reverse(turns)
	}
	return turns
}

// play measures a scenario: contenders take turns, in another order each round, so that a busy minute of the machine
// falls on all of them. One that fails is left out of the rounds that follow, and has no result. When the time is over,
// there are no more rounds, except the first.
func play(
	ctx context.Context, sc *scenario, contenders []contender, rounds int, over func() bool, progress func(string),
) *result {
	begin := time.Now()
	res := &result{Name: sc.name, About: sc.about, Metrics: sc.metrics, Notes: sc.notes}
	if sc.measure == nil {
		return res
	}

	turns := make([]turn, len(contenders))
	for i := range contenders {
		progress("starting " + contenders[i].name)
		turns[i] = contenders[i].enter(sc)
		defer turns[i].leave()
		res.Runs = append(res.Runs, &outcome{Contender: contenders[i].name})
		res.Runs[i].fail(turns[i].err)
	}

	for round := range rounds + 1 {
		if round > 1 && over() {
			res.Notes = append(res.Notes, fmt.Sprintf("%d of %d rounds: the time is over", round-1, rounds))
			break
		}
		progress(fmt.Sprintf("round %d of %d", round, rounds))
		for _, i := range order(len(contenders), round) {
			run := res.Runs[i]
			if turns[i].measure == nil || run.Failed != "" || ctx.Err() != nil {
				continue
			}
			from := time.Now()
			f, err := turns[i].measure(ctx, round)
			run.fail(err)
			if round > 0 && err == nil {
				run.Rounds = append(run.Rounds, f)
				run.Times = append(run.Times, period{from, time.Now()})
			}
		}
	}

	res.Seconds = time.Since(begin).Seconds()
	res.summarize()
	return res
}

// turn is a contender in a scenario.
type turn struct {
	measure func(ctx context.Context, round int) (figures, error) // nil if it does not take part
	leave   func()
	err     error // why it could not start
}

// enter starts a contender, if it takes part.
func (c *contender) enter(sc *scenario) turn {
	nothing := func() {}
	switch {
	case c.engine != nil && sc.engine != nil:
		return turn{
			measure: func(ctx context.Context, _ int) (figures, error) { return sc.engine(ctx, c.engine) },
			leave:   nothing,
		}
	case c.engine != nil || sc.serveOnly && !c.serve:
		return turn{leave: nothing}
	}

	s, err := c.start(sc.need)
	if err != nil {
		return turn{leave: nothing, err: err}
	}
	return turn{
		measure: func(ctx context.Context, round int) (figures, error) { return sc.measure(ctx, s, round) },
		leave:   s.Stop,
	}
}

// result is what came of a scenario.
type result struct {
	Name    string     `json:"name"`
	About   string     `json:"about"`
	Metrics []metric   `json:"metrics"`
	Notes   []string   `json:"notes,omitempty"`
	Seconds float64    `json:"seconds"` // that it took to measure
	Runs    []*outcome `json:"contenders"`
}

// outcome is what came of one contender. Those of all but the first have ratios.
type outcome struct {
	Contender string            `json:"name"`
	Rounds    []figures         `json:"rounds,omitempty"`
	Times     []period          `json:"times,omitempty"` // of the rounds
	Values    map[string]spread `json:"values,omitempty"`
	Ratios    map[string]spread `json:"ratios,omitempty"` // how much better the first contender is: over 1, it is ahead
	Failed    string            `json:"failed,omitempty"`
}

// period is from one time to another.
type period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// fail notes an error, and drops what came before it: fewer rounds than the others have are not compared.
func (o *outcome) fail(err error) {
	if err != nil {
		o.Failed = err.Error()
		o.Rounds = nil
		o.Times = nil
	}
}

// spread is a median, and the least and the greatest value.
type spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

// summarize computes medians and ratios. A ratio is that of the medians; its spread is that of the rounds' own
// ratios, since what was measured in the same round was measured in the same minutes.
func (r *result) summarize() {
	for i, run := range r.Runs {
		run.Values = map[string]spread{}
		run.Ratios = map[string]spread{}
		for _, m := range r.Metrics {
			values := run.values(m.Name)
			if len(values) == 0 {
				continue
			}
			run.Values[m.Name] = spread{median(values), slices.Min(values), slices.Max(values)}
			if i > 0 && m.Better != "" {
				compare(run, m, r.Runs[0].values(m.Name), values)
			}
		}
	}
}

// compare adds the ratio of a metric, unless one of them has no values for each round, or a zero.
func compare(run *outcome, m metric, ours, theirs []float64) {
	if len(ours) != len(theirs) || slices.Contains(ours, 0) || slices.Contains(theirs, 0) {
		return
	}
	ratio := func(ours, theirs float64) float64 {
		if m.Better == lower {
			return theirs / ours
		}
		return ours / theirs
	}

	var rounds []float64
	for round := range ours {
		rounds = append(rounds, ratio(ours[round], theirs[round]))
	}
	run.Ratios[m.Name] = spread{ratio(median(ours), median(theirs)), slices.Min(rounds), slices.Max(rounds)}
}

// values are those of a metric, by round.
func (o *outcome) values(name string) (v []float64) {
	for _, f := range o.Rounds {
		if value, ok := f[name]; ok {
			v = append(v, value)
		}
	}
	return v
}

// failure has the errors of all contenders.
func (r *result) failure() error {
	var errs []error
	for _, run := range r.Runs {
		if run.Failed != "" {
			errs = append(errs, fmt.Errorf("%s: %s: %s", r.Name, run.Contender, run.Failed))
		}
	}
	return errors.Join(errs...)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
