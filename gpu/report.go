package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// markdown has a table of the rows, one of speeds, and what was left out.
func (r *results) markdown(price float64) string {
	var b strings.Builder
	device := r.Device
	if device == "" {
		device = "no GPU"
	}
	fmt.Fprintf(&b, "# %s, %s\n\n", device, r.Started.Format("2 January 2006 15:04 UTC"))
	for _, line := range r.Machine {
		fmt.Fprintf(&b, "- %s\n", cellText(line))
	}

	if len(r.Rows) > 0 {
		b.WriteString("\n| what | command | result |\n|---|---|---|\n")
	}
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "| %s | `%s` | %s |\n", row.About, row.Command, cellText(row.text()))
	}

	if len(r.Speeds) > 0 {
		fmt.Fprintf(&b, "\nMedians. Dollars are for a million tokens, where an hour of the machine costs $%.2f.\n\n", price)
		b.WriteString("| model | workload | | figures | serve is better by | W | J a token | $ |\n")
		b.WriteString(strings.Repeat("|---", 8) + "|\n")
	}
	for i := range r.Speeds {
		b.WriteString(r.Speeds[i].row(price))
	}

	b.WriteString("\n")
	for _, s := range r.Stages {
		fmt.Fprintf(&b, "- %s: %.0f s, %.0f W on average, %.0f W at most", s.Name, s.Seconds, s.Watts.Mean, s.Watts.Most)
		if s.Error != "" {
			fmt.Fprintf(&b, "; failed: %s", cellText(s.Error))
		}
		b.WriteString("\n")
	}
	for _, text := range r.Left {
		fmt.Fprintf(&b, "- left out: %s\n", cellText(text))
	}
	return b.String()
}

// row is a line of the table of speeds.
func (s *speed) row(price float64) string {
	if s.Failed != "" {
		return fmt.Sprintf("| %s | %s | %s | failed: %s | | | | |\n", s.Model, s.Scenario, s.Contender, cellText(s.Failed))
	}
	var figures, ratios []string
	for _, name := range slices.Sorted(maps.Keys(s.Figures)) {
		figures = append(figures, fmt.Sprintf("%s %s %s", name, number(s.Figures[name]), s.Units[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Ratios)) {
		ratios = append(ratios, fmt.Sprintf("%s %.2f x", name, s.Ratios[name]))
	}

	var power, joules, cost string
	rate := s.Figures[throughput]
	if s.Watts.Mean > 0 {
		power = number(s.Watts.Mean)
	}
	if s.Watts.Mean > 0 && rate > 0 {
		joules = number(s.Watts.Mean / rate)
	}
	if rate > 0 {
		cost = number(dollars(rate, price))
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", s.Model, s.Scenario, s.Contender,
		strings.Join(figures, "; "), strings.Join(ratios, "; "), power, joules, cost)
}

// number shows three digits.
func number(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// cellText is a text that fits into a cell: its end, which says why something failed, in one line.
func cellText(text string) string {
	const enough = 500
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > enough {
		text = "…" + strings.ToValidUTF8(text[len(text)-enough:], "")
	}
	return strings.ReplaceAll(text, "|", "\\|")
}
