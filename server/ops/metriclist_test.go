package ops

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"serve/testfiles"
)

// update is set to write the documents anew.
var update = flag.Bool("update", false, "write the golden files anew")

// TestMetricTable writes the table in docs/metrics.md of the declarations.
func TestMetricTable(t *testing.T) {
	own := append(slices.Clone(modelMetrics), httpRequests, httpTime)
	testfiles.Section(t, "../../docs/metrics.md", "metrics", metricTable(own), *update)
	testfiles.Section(t, "../../docs/metrics.md", "vllm", metricTable(vllmMetrics), *update)
}

// TestMetricDeclarations checks what Prometheus would find out when asked first.
func TestMetricDeclarations(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range slices.Concat([]metric{httpRequests, httpTime}, modelMetrics, vllmMetrics) {
		if seen[m.name] || !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s is declared twice, or %q is no sentence", m.name, m.help)
		}
		seen[m.name] = true
		if (m.kind == counter) != strings.HasSuffix(m.name, "_total") {
			t.Errorf("%s is a %s", m.name, m.kind)
		}
	}
	for _, m := range slices.Concat(modelMetrics, vllmMetrics) {
		if (m.read == nil) == (m.histogram == nil) || (m.histogram != nil) != (m.kind == histogram) {
			t.Errorf("%s has no values, or others than a %s has", m.name, m.kind)
		}
	}
}
