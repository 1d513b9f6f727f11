package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newKit is a kit whose log is the test's.
func newKit(t *testing.T, limit time.Duration, chosen ...string) *kit {
	t.Helper()
	o := &options{out: t.TempDir(), limit: limit, stages: chosen, rehearse: true, price: 2.95}
	return &kit{options: o, work: t.TempDir(), begin: time.Now(), log: t.Output(), meter: &meter{}}
}

// replaced puts other stages into the place of the kit's.
func replaced(t *testing.T, list ...stage) {
	t.Helper()
	old := stages
	stages = list
	t.Cleanup(func() { stages = old })
}

// TestStages does what is chosen in its order, goes on after a failure, and leaves out what there is no time for.
func TestStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done []string
		step := func(name string, takes time.Duration, err error) stage {
			return stage{name: name, about: "about " + name, do: func(context.Context, *kit) error {
				done = append(done, name)
				time.Sleep(takes) // virtual
				return err
			}}
		}
		replaced(t, step("a", time.Second, errors.New("broken")), step("b", time.Minute, nil), step("c", 0, nil))

		k := newKit(t, 30*time.Second, "a", "b", "c")
		if err := k.run(t.Context()); err == nil || !strings.Contains(err.Error(), "a: broken") {
			t.Error(err)
		}
		if !slices.Equal(done, []string{"a", "b"}) {
			t.Error(done)
		}

		data, err := os.ReadFile(filepath.Join(k.out, "results.json"))
		var r results
		if err := errors.Join(err, json.Unmarshal(data, &r)); err != nil {
			t.Fatal(err)
		}
		if len(r.Stages) != 2 || r.Stages[0].Error != "broken" || r.Stages[1].Seconds != 60 ||
			!slices.Equal(r.Left, []string{"about c: the time is over"}) {
			t.Errorf("%+v", r)
		}
	})
}

// TestReport has all there is.
func TestReport(t *testing.T) {
	r := results{
		Device:  "GPU",
		Machine: []string{"a | b"},
		Rows: []rowResult{
			{About: "one", Command: "serve", Seen: "good"},
			{About: "two", Command: "serve", Seen: "bad", Failed: "broken\nfor good"},
			{About: "three", Command: "serve", Left: "no time"},
		},
		Speeds: []speed{
			{Model: "8b", Scenario: "crowd, 8", Contender: "serve", Figures: map[string]float64{throughput: 820, "first token": 12.34},
				Units: map[string]string{throughput: "tokens/s", "first token": "ms"}, Watts: watts{Mean: 410}},
			{Model: "8b", Scenario: "crowd, 8", Contender: "bare", Failed: "it died"},
		},
		Left:   []string{"the rest"},
		Stages: []stageSeconds{{Name: "rows", Seconds: 2, Watts: watts{1, 2}, Error: "no"}},
	}
	text := r.markdown(2.95)
	for _, want := range []string{
		"- a \\| b\n",
		"| one | `serve` | good |\n",
		"| two | `serve` | bad; failed: broken for good |\n",
		"| three | `serve` | left out: no time |\n",
		"| 8b | crowd, 8 | serve | first token 12.3 ms; output 820 tokens/s |  | 410 | 0.5 | 0.999 |\n",
		"| 8b | crowd, 8 | bare | failed: it died |",
		"- left out: the rest\n",
		"- rows: 2 s, 1 W on average, 2 W at most; failed: no\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not there: %s\n%s", want, text)
		}
	}
}

// TestMeter takes the samples of some time, and skips lines that are no numbers.
func TestMeter(t *testing.T) {
	m := &meter{}
	begin := time.Now()
	m.read(strings.NewReader("100.5\n[N/A]\n\n299.5\n"))
	if w := m.between(begin, time.Now()); w != (watts{200, 299.5}) {
		t.Errorf("%+v", w)
	}
	if w := m.between(begin.Add(-time.Hour), begin.Add(-time.Minute)); w != (watts{}) {
		t.Errorf("%+v", w)
	}
}

// TestStatus says what is more than planned.
func TestStatus(t *testing.T) {
	var s status
	text := `{"devices": [{"name": "CUDA0"}, {"name": "CPU"}], "memory": [
		{"device": "CUDA0", "planned_bytes": 1073741824, "taken_bytes": 1100000000},
		{"device": "host", "planned_bytes": 1073741824, "taken_bytes": 2147483648}]}`
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	seen, err := s.memory()
	if seen != "CUDA0 1.00 GiB planned, 1.02 taken; host 1.00 GiB planned, 2.00 taken" || err == nil ||
		!strings.HasPrefix(err.Error(), "host:") || !s.onGPU() {
		t.Error(seen, err, s.onGPU())
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-stages", "nothing"}, {"-for", "0s"}, {"-x"}} {
		if _, err := parse(args, t.Output()); err == nil {
			t.Errorf("%v: not refused", args)
		}
	}
	o, err := parse([]string{"-bin", "b", "-stages", "rows,8b"}, t.Output())
	if err != nil || o.peers != "b" || !slices.Equal(o.stages, []string{"rows", "8b"}) {
		t.Error(o, err)
	}
}
