package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"serve/bench/launch"
)

// TestOrder has each contender at each turn equally often, and after each other one equally often.
func TestOrder(t *testing.T) {
	for n := 1; n <= 7; n++ {
		rounds := n
		if n%2 == 1 {
			rounds = 2 * n
		}
		turns := map[[2]int]int{}
		pairs := map[[2]int]int{}
		for round := range rounds {
			list := order(n, round)
			if sorted := slices.Sorted(slices.Values(list)); len(sorted) != n || sorted[0] != 0 || sorted[n-1] != n-1 ||
				len(slices.Compact(sorted)) != n {
				t.Fatalf("%d contenders, round %d: %v", n, round, list)
			}
			if n > 1 && slices.Equal(list, order(n, round+1)) {
				t.Errorf("%d contenders: rounds %d and the next have the order %v", n, round, list)
			}
			for i, c := range list {
				turns[[2]int{c, i}]++
				if i > 0 {
					pairs[[2]int{list[i-1], c}]++
				}
			}
		}

		if len(turns) != n*n || len(pairs) != n*(n-1) {
			t.Errorf("%d contenders: %d turns and %d pairs", n, len(turns), len(pairs))
		}
		for turn, count := range turns {
			if count != rounds/n {
				t.Errorf("%d contenders: contender and turn %v %d times", n, turn, count)
			}
		}
		for pair, count := range pairs {
			if count != rounds/n {
				t.Errorf("%d contenders: %v follow %d times", n, pair, count)
			}
		}
	}
}

// stopped is a server that measures nothing.
func stopped(name string, stops *[]string) contender {
	return contender{name: name, start: func(need) (*launch.Server, error) {
		return &launch.Server{Name: name, Stop: func() { *stops = append(*stops, name) }}, nil
	}}
}

// never is a time that is not over.
func never() bool { return false }

// TestOver has one round, and says how many it has not.
func TestOver(t *testing.T) {
	rounds := 0
	sc := scenario{name: "short", measure: func(context.Context, *launch.Server, int) (figures, error) {
		rounds++
		return figures{}, nil
	}}
	var stops []string
	res := play(t.Context(), &sc, []contender{stopped("serve", &stops)}, 5, func() bool { return true }, func(string) {})
	if rounds != 2 || !slices.Equal(res.Notes, []string{"1 of 5 rounds: the time is over"}) {
		t.Errorf("%d rounds with the one that warms up, %q", rounds, res.Notes)
	}

	o := testOptions(t, "-workloads", "single,crowd", "-clients", "2")
	r := newReport(o, "m.gguf", []string{"serve"})
	err := o.measure(t.Context(), r, []contender{stopped("serve", &stops)}, 0, func() bool { return true },
		func() error { return nil })
	if err != nil || len(r.Results) != 2 || len(r.Results[1].Runs) != 0 || r.Results[1].Name != "crowd, 2" {
		t.Errorf("%+v %v", r.Results, err)
	}
	if timer(0)() || !timer(1)() {
		t.Error("no limit is over, or a nanosecond is not")
	}
}

// TestPlay has contenders of given figures take turns.
func TestPlay(t *testing.T) {
	rate := metric{"rate", "tokens/s", higher}
	wait := metric{"wait", "ms", lower}
	share := metric{"share", "%", ""}
	var log, stops []string
	given := map[string][]figures{
		"serve": {{"rate": 1}, {"rate": 100, "wait": 10, "share": 50}, {"rate": 120, "wait": 12}, {"rate": 90, "wait": 9}},
		"other": {{"rate": 1}, {"rate": 50, "wait": 30}, {"rate": 100, "wait": 24}, {"rate": 60, "wait": 0}},
	}
	sc := scenario{
		name:    "thing",
		metrics: []metric{rate, wait, share},
		measure: func(_ context.Context, s *launch.Server, round int) (figures, error) {
			log = append(log, fmt.Sprint(round, s.Name))
			if s.Name == "breaks" && round == 2 {
				return nil, errors.New("it broke")
			}
			if list := given[s.Name]; list != nil {
				return list[round], nil
			}
			return figures{"rate": 10}, nil
		},
		engine: func(context.Context, *engine) (figures, error) { return figures{"rate": 200}, nil },
	}
	contenders := []contender{
		stopped("serve", &stops), stopped("other", &stops), stopped("breaks", &stops),
		{name: "absent", start: func(need) (*launch.Server, error) { return nil, errors.New("no file") }},
		{name: "bare", engine: &engine{}},
	}
	res := play(t.Context(), &sc, contenders, 3, never, func(string) {})

	want := map[string]string{
		"serve":  "{100 90 120} {10 9 12} {50 50 50} {0 0 0} {0 0 0}",
		"other":  "{60 50 100} {24 0 30} {0 0 0} {1.6666666666666667 1.2 2} {0 0 0}",
		"breaks": "{0 0 0} {0 0 0} {0 0 0} {0 0 0} {0 0 0}",
		"absent": "{0 0 0} {0 0 0} {0 0 0} {0 0 0} {0 0 0}",
		"bare":   "{200 200 200} {0 0 0} {0 0 0} {0.5 0.45 0.6} {0 0 0}",
	}
	for _, run := range res.Runs {
		got := fmt.Sprint(run.Values["rate"], run.Values["wait"], run.Values["share"], run.Ratios["rate"], run.Ratios["wait"])
		if got != want[run.Contender] {
			t.Errorf("%s: %s, not %s", run.Contender, got, want[run.Contender])
		}
	}
	if err := res.failure(); err == nil || !strings.Contains(err.Error(), "breaks: it broke") ||
		!strings.Contains(err.Error(), "absent: no file") {
		t.Error(err)
	}
	if len(log) != 4+4+3 || !slices.Contains(log, "0breaks") || slices.Contains(log, "3breaks") {
		t.Errorf("measured %v", log)
	}
	if slices.Sort(stops); !slices.Equal(stops, []string{"breaks", "other", "serve"}) {
		t.Errorf("stopped %v", stops)
	}

	sc.serveOnly = true
	sc.engine = nil
	contenders[0].serve = true
	log = nil
	res = play(t.Context(), &sc, contenders, 1, never, func(string) {})
	if len(log) != 2 || len(res.Runs[1].Values) != 0 || res.failure() != nil {
		t.Errorf("%v %v", log, res.failure())
	}
}

// TestLowerIsBetter has ratios over 1 for the contender that waits less, too.
func TestLowerIsBetter(t *testing.T) {
	o := &outcome{Ratios: map[string]spread{}}
	compare(o, metric{"wait", "ms", lower}, []float64{10, 20}, []float64{20, 10})
	if got := o.Ratios["wait"]; got != (spread{1, 0.5, 2}) {
		t.Errorf("%v", got)
	}
}

func sampleReport() *report {
	r := newReport(&options{threads: 2, rounds: 3, seed: 7}, "a.gguf", []string{"serve", "tuned"})
	res := &result{
		Name:    "single",
		About:   "one client",
		Metrics: []metric{{"output", "tokens/s", higher}, {"cached", "%", ""}},
		Notes:   []string{"16384 is left out"},
		Seconds: 61,
		Runs: []*outcome{
			{Contender: "serve", Rounds: []figures{{"output": 101, "cached": 1.5}, {"output": 99, "cached": 1.5}}},
			{Contender: "tuned", Rounds: []figures{{"output": 50}, {"output": 0.75}}},
		},
	}
	res.summarize()
	failed := &result{Name: "tools", Metrics: res.Metrics, Runs: []*outcome{{Contender: "serve"}, {Contender: "tuned"}}}
	failed.Runs[1].fail(errors.New("first\nlast"))
	failed.summarize()
	r.Results = []*result{res, failed}
	return r
}

func TestMarkdown(t *testing.T) {
	got := sampleReport().markdown()
	for _, line := range []string{
		"| workload | figure | x tuned |\n|---|---|---|\n| single | output, tokens/s | 3.94 (2.02 to 132.00) |\n",
		"| tools | output, tokens/s | failed |\n\n",
		"| workload | figure | serve | tuned |\n|---|---|---|---|\n" +
			"| single | output, tokens/s | 100 (99.0 to 101) | 25.4 (0.750 to 50.0) |\n" +
			"| single | cached, % | 1.50 (1.50 to 1.50) |  |\n",
		"- single (1m1s): one client.\n  - 16384 is left out\n",
		"  - tuned failed: first last\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if strings.Count(got, "cached") != 2 {
		t.Errorf("what is only shown is compared:\n%s", got)
	}
}

// TestJSON can be read by programs, and has each round.
func TestJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.json")
	if err := write(file, []*report{sampleReport()}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var read struct{ Reports []report }
	if err := json.Unmarshal(data, &read); err != nil || len(read.Reports) != 1 {
		t.Fatal(err, string(data))
	}
	runs := read.Reports[0].Results[0].Runs
	if runs[0].Rounds[1]["output"] != 99 || runs[1].Ratios["output"].Most != 132 || read.Reports[0].Seed != 7 {
		t.Errorf("%s", data)
	}
	if err := write("", nil); err != nil {
		t.Error(err)
	}
}
