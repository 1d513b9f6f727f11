package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report has the results of one model.
type report struct {
	Model      string    `json:"model"`
	Started    time.Time `json:"started"`
	System     string    `json:"system"`
	Processors int       `json:"processors"`
	Threads    int       `json:"threads"`
	Rounds     int       `json:"rounds"`
	Seed       uint64    `json:"seed"`
	Contenders []string  `json:"contenders"`
	Results    []*result `json:"results"`
}

func newReport(o *options, model string, contenders []string) *report {
	return &report{
		Model:      model,
		Started:    time.Now().UTC().Truncate(time.Second),
		System:     runtime.GOOS + "/" + runtime.GOARCH,
		Processors: runtime.NumCPU(),
		Threads:    o.threads,
		Rounds:     o.rounds,
		Seed:       o.seed,
		Contenders: contenders,
	}
}

// write writes reports as JSON, if a file is named.
func write(file string, reports []*report) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(map[string]any{"reports": reports}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

func (r *report) heading() string {
	return fmt.Sprintf("\n## %s\n\n%s, %d processors, %d threads, %s. Medians of %d rounds, seed %d.\n", r.Model, r.System,
		r.Processors, r.Threads, r.Started.Format("2 January 2006 15:04 UTC"), r.Rounds, r.Seed)
}

// markdown has two tables, of ratios and of values, and what there is to say about them.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nHow much better %s is: ratios of medians, over 1 if it is ahead, and in parentheses the range of "+
		"the rounds' own ratios.\n\n", r.Contenders[0])
	r.table(&b, r.Contenders[1:], "x ", func(m metric) bool { return m.Better != "" }, func(o *outcome, m metric) string {
		return cell(o, o.Ratios, m.Name, ratioText)
	})

	b.WriteString("\nMedians, and in parentheses the range of the rounds:\n\n")
	r.table(&b, r.Contenders, "", func(metric) bool { return true }, func(o *outcome, m metric) string {
		return cell(o, o.Values, m.Name, number)
	})

	b.WriteString("\n")
	for _, res := range r.Results {
		fmt.Fprintf(&b, "- %s (%s): %s.\n", res.Name, duration(res.Seconds), res.About)
		for _, note := range res.Notes {
			fmt.Fprintf(&b, "  - %s\n", note)
		}
		for _, run := range res.Runs {
			if run.Failed != "" {
				fmt.Fprintf(&b, "  - %s failed: %s\n", run.Contender, ending(run.Failed))
			}
		}
	}
	return b.String()
}

// table writes a row for each figure of each scenario that is wanted, and a column for each contender that is named.
func (r *report) table(
	b *strings.Builder, contenders []string, prefix string, wanted func(metric) bool, cell func(*outcome, metric) string,
) {
	b.WriteString("| workload | figure |")
	for _, name := range contenders {
		fmt.Fprintf(b, " %s%s |", prefix, name)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(contenders)) + "\n")

	for _, res := range r.Results {
		for _, m := range res.Metrics {
			if !wanted(m) {
				continue
			}
			fmt.Fprintf(b, "| %s | %s, %s |", res.Name, m.Name, m.Unit)
			for _, run := range res.Runs {
				if slices.Contains(contenders, run.Contender) {
					fmt.Fprintf(b, " %s |", cell(run, m))
				}
			}
			b.WriteString("\n")
		}
	}
}

// cell shows one of a contender's spreads.
func cell(o *outcome, spreads map[string]spread, name string, show func(float64) string) string {
	s, ok := spreads[name]
	switch {
	case o.Failed != "":
		return "failed"
	case !ok:
		return ""
	case len(o.Rounds) == 1:
		return show(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", show(s.Median), show(s.Least), show(s.Most))
}

// ending is the last part of an error, which may have a server's log: the JSON file has all of it.
func ending(text string) string {
	const enough = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > enough {
		text = "…" + strings.ToValidUTF8(text[len(text)-enough:], "")
	}
	return text
}

func ratioText(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }

// number shows three digits, and all of those before the point.
func number(v float64) string {
	digits := 2
	if v != 0 {
		digits = 2 - int(math.Floor(math.Log10(math.Abs(v))))
	}
	return strconv.FormatFloat(v, 'f', min(max(digits, 0), 3), 64)
}

func duration(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
