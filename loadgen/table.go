package loadgen

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// row is a row of a table: a number of one run, or of two runs and their ratio.
type row struct {
	name   string
	values []string
	ratio  string
}

// Table returns the cells of the table of a run: names and numbers. Beside another run, unless that is nil, there
// are the numbers of both, their ratios, and headings.
func Table(r, against *Report) (cells [][]string) {
	runs := []*Report{r}
	if against != nil {
		runs = append(runs, against)
		cells = append(cells, []string{"", "this run", "baseline", ""})
	}
	for _, row := range rows(runs) {
		cells = append(cells, slices.Concat([]string{row.name}, row.values, []string{row.ratio}))
	}
	return cells
}

func rows(runs []*Report) (list []row) {
	add := func(name string, of func(*Report) float64, show func(float64) string, compare bool) {
		row := row{name: name}
		for _, r := range runs {
			row.values = append(row.values, show(of(r)))
		}
		if compare && len(runs) == 2 && of(runs[1]) > 0 {
			row.ratio = fmt.Sprintf("%.2f x", of(runs[0])/of(runs[1]))
		}
		list = append(list, row)
	}

	whole := func(v float64) string { return strconv.Itoa(int(v)) }
	rate := func(v float64) string { return strconv.FormatFloat(v, 'f', decimals(v), 64) }
	add("answered", func(r *Report) float64 { return float64(r.Answered) }, whole, false)
	for _, c := range []struct {
		name string
		of   func(*Report) float64
	}{
		{"refused", func(r *Report) float64 { return float64(r.Refused) }},
		{"failed", func(r *Report) float64 { return float64(r.Failed) }},
		{"abandoned", func(r *Report) float64 { return float64(r.Left) }},
		{"prompt tokens from the cache", func(r *Report) float64 { return float64(r.CachedTokens) }},
	} {
		for _, r := range runs {
			if c.of(r) > 0 {
				add(c.name, c.of, whole, false)
				break
			}
		}
	}

	add("prompt tokens", func(r *Report) float64 { return float64(r.PromptTokens) }, whole, false)
	add("answer tokens", func(r *Report) float64 { return float64(r.AnswerTokens) }, whole, false)
	add("seconds", func(r *Report) float64 { return r.Seconds }, rate, false)
	add("answer tokens per second", func(r *Report) float64 { return r.TokensPerSecond }, rate, true)
	add("prompt tokens per second", func(r *Report) float64 { return r.PromptPerSecond }, rate, true)
	add("answers per second", func(r *Report) float64 { return r.PerSecond }, rate, true)
	for _, c := range []struct {
		name string
		of   func(*Report) Distribution
	}{
		{"time to first token", func(r *Report) Distribution { return r.First }},
		{"time between tokens", func(r *Report) Distribution { return r.Gap }},
		{"time per token", func(r *Report) Distribution { return r.PerToken }},
		{"time per answer", func(r *Report) Distribution { return r.Whole }},
	} {
		add(c.name+", median", func(r *Report) float64 { return c.of(r).P50 }, Seconds, true)
		add(c.name+", 90th percentile", func(r *Report) float64 { return c.of(r).P90 }, Seconds, true)
		add(c.name+", 99th percentile", func(r *Report) float64 { return c.of(r).P99 }, Seconds, true)
	}
	return list
}

func decimals(v float64) int {
	switch {
	case v >= 100:
		return 0
	case v >= 10:
		return 1
	}
	return 2
}

// Seconds formats a time with a suitable unit.
func Seconds(t float64) string {
	unit := "s"
	switch {
	case t == 0:
		return "0"
	case t < 1e-3:
		t = t * 1e6
		unit = "µs"
	case t < 1:
		t = t * 1e3
		unit = "ms"
	}
	text := strconv.FormatFloat(t, 'f', decimals(t), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + " " + unit
}

// String describes the workload.
func (w Workload) String() string {
	var b strings.Builder
	switch {
	case w.Trace != "":
		fmt.Fprintf(&b, "trace %s, %d requests", w.Trace, w.Requests)
		return b.String()
	case w.Rate > 0:
		fmt.Fprintf(&b, "%d requests, %g per second", w.Requests, w.Rate)
	default:
		fmt.Fprintf(&b, "%d requests from %d clients", w.Requests, w.Clients)
	}
	fmt.Fprintf(&b, ", prompts of %s tokens", w.Prompt)
	if w.Shared > 0 {
		fmt.Fprintf(&b, " (%d shared)", w.Shared)
	}
	fmt.Fprintf(&b, ", answers of %s", w.Answer)
	return b.String()
}

// Histogram draws a distribution in rows of text of limited width: from the first bin to
// the last, with several bins per row, and the share of each row.
func (d *Distribution) Histogram(columns int, plain bool) []string {
	if d.Count == 0 {
		return nil
	}

	// The distribution's bins are finer than a screen is tall.
	const joined = 6
	wider := math.Exp2(float64(joined) / binsPerDoubling)
	type bar struct {
		from, to float64
		count    int
	}

	var bars []bar
	least := d.Bins[0].From
	for _, bin := range d.Bins {
		for len(bars) == 0 || bin.From >= bars[len(bars)-1].to*0.999 {
			from := least
			if len(bars) > 0 {
				from = bars[len(bars)-1].to
			}
			bars = append(bars, bar{from: from, to: from * wider})
		}
		bars[len(bars)-1].count += bin.Count
	}

	// At either end, bins with less than one in a thousand share a row.
	rare := d.Count / 1000
	for len(bars) > 1 && bars[0].count+bars[1].count <= rare {
		bars[1].count = bars[1].count + bars[0].count
		bars[1].from = bars[0].from
		bars = bars[1:]
	}

	for n := len(bars); n > 1 && bars[n-1].count+bars[n-2].count <= rare; n-- {
		bars[n-2].count = bars[n-2].count + bars[n-1].count
		bars[n-2].to = bars[n-1].to
		bars = bars[:n-1]
	}

	most := 0
	for _, b := range bars {
		most = max(most, b.count)
	}

	var list []string
	for _, b := range bars {
		text := fmt.Sprintf(
			"%9s -%8s  %s %s",
			Seconds(b.from),
			Seconds(b.to),
			stroke(float64(b.count)/float64(most), columns-32, plain),
			share(b.count, d.Count),
		)
		list = append(list, strings.TrimRight(text, " "))
	}
	return list
}

func share(count, of int) string {
	if count == 0 {
		return ""
	}
	return strconv.FormatFloat(100*float64(count)/float64(of), 'f', 1, 64) + " %"
}

// stroke returns a bar for a fraction of a number of columns.
func stroke(part float64, columns int, plain bool) string {
	eighths := int(part*float64(columns)*8 + 0.5)
	if plain {
		return strings.Repeat("#", (eighths+4)/8)
	}
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text
}

// Comparison describes how the results differ from the server's own metrics, in lines; nil if there
// are no such metrics.
func (r *Report) Comparison() []string {
	s := r.Server
	if s == nil {
		return nil
	}
	differs := func(ours, theirs float64) string {
		if theirs == 0 {
			return "none"
		}
		return fmt.Sprintf("%+.2f%%", 100*(ours/theirs-1))
	}

	prompt := differs(float64(r.PromptTokens), float64(s.PromptTokens))
	answer := differs(float64(r.AnswerTokens), float64(s.AnswerTokens))
	return []string{
		fmt.Sprintf("the server's /metrics: %d choices, %d prompt tokens and %d answer tokens (measured: %s and %s)",
			s.Choices, s.PromptTokens, s.AnswerTokens, prompt, answer),
		fmt.Sprintf(
			"the server's /metrics: first token after %s (measured: %s), then one every %s (measured: %s)",
			Seconds(
				s.FirstToken,
			),
			differs(r.First.Mean, s.FirstToken),
			Seconds(s.PerToken),
			differs(r.PerToken.Mean, s.PerToken),
		),
	}
}
