package ops

import (
	"flag"
	"strings"
	"testing"

	"serve/testfiles"
)

// update is set to write the documents anew.
var update = flag.Bool("update", false, "write the golden files anew")

// TestMetricTable writes the table in docs/metrics.md of the declarations.
func TestMetricTable(t *testing.T) {
	testfiles.Section(t, "../../docs/metrics.md", "metrics", metricTable(), *update)
}

// TestMetricDeclarations checks what Prometheus would find out when asked first.
func TestMetricDeclarations(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range append([]metric{httpRequests, httpTime}, modelMetrics...) {
		if seen[m.name] || !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s is declared twice, or %q is no sentence", m.name, m.help)
		}
		seen[m.name] = true
		if (m.kind == counter) != strings.HasSuffix(m.name, "_total") {
			t.Errorf("%s is a %s", m.name, m.kind)
		}
	}
	for _, m := range modelMetrics {
		if (m.read == nil) == (m.histogram == nil) || (m.histogram != nil) != (m.kind == histogram) || len(m.labels) > 1 {
			t.Errorf("%s has no values, or others than a %s has", m.name, m.kind)
		}
	}
}
