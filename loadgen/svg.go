package loadgen

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Sizes of the image, in its own units.
const (
	svgWidth   = 860
	svgMargin  = 24
	svgRow     = 24
	chartTall  = 150
	chartWide  = svgWidth - 2*svgMargin
	labelWide  = 280
	columnWide = 180
)

// The two runs' colors, which can be distinguished by color-blind people and in print.
var svgColors = [2]string{"#0b6e5d", "#c2570c"}

// The charts below the table, in order.
var charts = []struct {
	name string
	of   func(*Report) Distribution
}{
	{"Time to first token", func(r *Report) Distribution { return r.First }},
	{"Time between tokens", func(r *Report) Distribution { return r.Gap }},
	{"Time per answer", func(r *Report) Distribution { return r.Whole }},
}

// SVG draws a report, beside another one unless that is nil: a table, and the distributions
// of times.
func SVG(r, against *Report) []byte {
	runs := []*Report{r}
	if against != nil {
		runs = append(runs, against)
	}

	var b bytes.Buffer
	y := svgMargin + 12
	text := func(x, y int, style, format string, args ...any) {
		fmt.Fprintf(&b, `<text x="%d" y="%d" %s>`, x, y, style)
		_ = xml.EscapeText(&b, fmt.Appendf(nil, format, args...)) // writing to a buffer does not fail
		b.WriteString("</text>\n")
	}

	text(svgMargin, y, `font-size="18" font-weight="600"`, "serve bench")
	y += svgRow
	for i, run := range runs {
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="12" height="12" fill="%s"/>`+"\n", svgMargin, y-10, svgColors[i])
		text(svgMargin+20, y, "", "%s at %s, %s", run.Model, run.URL, run.Started.Format("2006-01-02 15:04"))
		text(svgMargin+20, y+svgRow-4, `fill="#555"`, "%s", run.Workload)
		y += 2 * svgRow
	}

	y += svgRow / 2
	for _, row := range rows(runs) {
		text(svgMargin, y, `fill="#555"`, "%s", row.name)
		for i, v := range row.values {
			text(svgMargin+labelWide+(i+1)*columnWide, y, `text-anchor="end"`, "%s", v)
		}
		if row.ratio != "" {
			text(svgMargin+labelWide+3*columnWide-40, y, `text-anchor="end" fill="#555"`, "%s", row.ratio)
		}
		y += svgRow
	}

	for _, c := range charts {
		var list []Distribution
		for _, run := range runs {
			list = append(list, c.of(run))
		}
		y += svgRow
		text(svgMargin, y, `font-weight="600"`, "%s", c.name)
		y += 8
		chart(&b, list, y)
		y += chartTall + svgRow
	}

	var out bytes.Buffer
	fmt.Fprintf(
		&out,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" `+
			`font-size="14" fill="#1b1f1e">`+"\n",
		svgWidth,
		y+svgMargin,
	)
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", svgWidth, y+svgMargin)
	out.Write(b.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// chart draws distributions over a logarithmic time axis.
func chart(b *bytes.Buffer, list []Distribution, top int) {
	least := math.Inf(1)
	most := 0.0
	tallest := 0.0
	for _, d := range list {
		for _, bin := range d.Bins {
			least = min(least, bin.From)
			most = max(most, bin.To)
			tallest = max(tallest, float64(bin.Count)/float64(d.Count))
		}
	}

	if most == 0 {
		return
	}

	x := func(t float64) float64 { return svgMargin + chartWide*math.Log(t/least)/math.Log(most/least) }
	floor := float64(top + chartTall)
	fmt.Fprintf(
		b, `<line x1="%d" y1="%g" x2="%d" y2="%g" stroke="#999"/>`+"\n", svgMargin, floor, svgMargin+chartWide, floor,
	)
	for _, t := range ticks(least, most) {
		fmt.Fprintf(
			b,
			`<line x1="%.1f" y1="%d" x2="%.1f" y2="%g" stroke="#ddd"/><text x="%.1f" y="%g" text-anchor="middle" `+
				`fill="#555" font-size="12">%s</text>`+"\n",
			x(t),
			top,
			x(t),
			floor,
			x(t),
			floor+16,
			Seconds(t),
		)
	}

	for i, d := range list {
		if d.Count == 0 {
			continue
		}
		var path strings.Builder
		fmt.Fprintf(&path, "M%.1f %g", x(d.Bins[0].From), floor)
		last := d.Bins[0].From
		for _, bin := range d.Bins {
			if bin.From > last*1.0001 { // a gap
				fmt.Fprintf(&path, "V%gH%.1f", floor, x(bin.From))
			}
			fmt.Fprintf(&path, "V%.1fH%.1f", floor-(chartTall-10)*float64(bin.Count)/float64(d.Count)/tallest, x(bin.To))
			last = bin.To
		}
		fmt.Fprintf(
			b,
			`<path d="%sV%g" fill="%s" fill-opacity="0.25" stroke="%s" stroke-width="1.5"/>`+"\n",
			path.String(),
			floor,
			svgColors[i],
			svgColors[i],
		)
	}
}

// ticks returns round times between two times.
func ticks(least, most float64) (list []float64) {
	steps := []float64{1, 2, 5}
	if most/least > 1e3 {
		steps = []float64{1} // no room for more
	}
	for e := math.Floor(math.Log10(least)); e <= math.Ceil(math.Log10(most)); e++ {
		for _, m := range steps {
			if t := m * math.Pow(10, e); t >= least && t <= most {
				list = append(list, t)
			}
		}
	}
	return list
}
