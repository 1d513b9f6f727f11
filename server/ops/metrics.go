package ops

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"serve/engine"
	"serve/fault"
	"serve/pool"
)

// metrics are the metrics of /metrics. Those of the engines are read from the engines on each
// scrape; only HTTP requests are counted here.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

func newMetrics(o *Ops) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: httpRequests.name,
			Help: httpRequests.help,
		}, httpRequests.labels),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    httpTime.name,
			Help:    httpTime.help,
			Buckets: []float64{.001, .01, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300},
		}, httpTime.labels),
	}

	r := prometheus.NewRegistry()
	r.MustRegister(
		m.requests,
		m.took,
		engineCollector{o},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	return m
}

func (m *metrics) answer(w http.ResponseWriter, r *http.Request) *fault.Error {
	m.handler.ServeHTTP(w, r)
	return nil
}

// Count counts an answered HTTP request. All unknown paths and methods share one label: clients can
// send arbitrary ones.
func (o *Ops) Count(endpoint, method string, status int, took time.Duration) {
	if endpoint == "" {
		endpoint = "other"
	}
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodHead, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	o.metrics.requests.WithLabelValues(endpoint, method, strconv.Itoa(status)).Inc()
	o.metrics.took.WithLabelValues(endpoint).Observe(took.Seconds())
}

// metric declares a metric. What /metrics and docs/metrics.md say of it comes from here.
type metric struct {
	name   string
	help   string // one sentence
	note   string // what docs/metrics.md says besides, in Markdown
	kind   kind
	labels []string // a model's metrics have the model besides, and one label at most

	// One of these gives the values of a model's metric.
	read      func(*pool.Counts) []sample
	histogram func(*pool.Counts) *engine.Histogram
}

// kind is the kind of a metric.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// sample is the value of a metric, for one value of its label if it has one.
type sample struct {
	label string
	n     float64
}

// metricTable returns the table of all metrics, in Markdown.
func metricTable() string {
	var b strings.Builder
	b.WriteString("| metric | kind | description |\n|---|---|---|\n")
	for _, m := range append(slices.Clone(modelMetrics), httpRequests, httpTime) {
		name := m.name
		if len(m.labels) > 0 {
			name += "{" + strings.Join(m.labels, ",") + "}"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, m.kind, strings.TrimSpace(m.help+" "+m.note))
	}
	return b.String()
}

// engineCollector collects the metrics of all models.
type engineCollector struct{ o *Ops }

// Describe implements prometheus.Collector. It sends nothing, which makes the collector unchecked.
func (engineCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (e engineCollector) Collect(out chan<- prometheus.Metric) {
	for _, model := range e.o.opts.Service.All() {
		counts := e.o.opts.Pool.Counts(model)
		for i := range modelMetrics {
			modelMetrics[i].collect(out, model.ID, &counts)
		}
	}
}

// collect sends a model's values.
func (m *metric) collect(out chan<- prometheus.Metric, model string, c *pool.Counts) {
	labels := append([]string{"model"}, m.labels...)
	desc := prometheus.NewDesc(m.name, m.help, labels, nil)
	if m.histogram != nil {
		out <- constHistogram(desc, model, m.histogram(c))
		return
	}

	valueType := prometheus.GaugeValue
	if m.kind == counter {
		valueType = prometheus.CounterValue
	}
	for _, s := range m.read(c) {
		values := []string{model, s.label}[:len(labels)]
		out <- prometheus.MustNewConstMetric(desc, valueType, s.n, values...)
	}
}

func constHistogram(desc *prometheus.Desc, model string, h *engine.Histogram) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Bounds))
	var count uint64
	for i, bound := range h.Bounds {
		count += h.Counts[i]
		buckets[bound] = count
	}
	if len(h.Counts) > 0 {
		count += h.Counts[len(h.Bounds)]
	}
	return prometheus.MustNewConstHistogram(desc, count, h.Sum, buckets, model)
}
