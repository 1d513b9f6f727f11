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
		newEngineCollector(o),
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
	labels []string // a model's metrics have the model besides

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

// sample is a value of a metric, for values of its labels.
type sample struct {
	labels []string
	n      float64
}

// metricTable returns a table of metrics, in Markdown.
func metricTable(metrics []metric) string {
	var b strings.Builder
	b.WriteString("| metric | kind | description |\n|---|---|---|\n")
	for _, m := range metrics {
		name := m.name
		if len(m.labels) > 0 {
			name += "{" + strings.Join(m.labels, ",") + "}"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, m.kind, strings.TrimSpace(m.help+" "+m.note))
	}
	return b.String()
}

// described is a metric of models with what Prometheus needs of it, which takes long to make.
type described struct {
	*metric
	desc *prometheus.Desc
}

// describe returns metrics whose first labels are those of the model.
func describe(metrics []metric, model ...string) []described {
	list := make([]described, len(metrics))
	for i := range metrics {
		m := &metrics[i]
		list[i] = described{m, prometheus.NewDesc(m.name, m.help, slices.Concat(model, m.labels), nil)}
	}
	return list
}

// engineCollector collects the metrics of all models.
type engineCollector struct {
	o    *Ops
	own  []described
	vllm []described // the same under vLLM's names; none unless they are wanted
}

func newEngineCollector(o *Ops) *engineCollector {
	e := &engineCollector{o: o, own: describe(modelMetrics, "model")}
	if o.opts.MetricNames == NamesVLLM {
		e.vllm = describe(vllmMetrics, "model_name", "engine")
	}
	return e
}

// Describe implements prometheus.Collector. It sends nothing, which makes the collector unchecked.
func (*engineCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. It waits for no step: what it reads is guarded by locks that nobody holds
// while a model computes.
func (e *engineCollector) Collect(out chan<- prometheus.Metric) {
	for _, model := range e.o.opts.Service.All() {
		counts := e.o.opts.Pool.Counts(model)
		for _, m := range e.own {
			m.collect(out, &counts, model.ID)
		}
		for _, m := range e.vllm {
			m.collect(out, &counts, model.ID, "0")
		}
	}
}

// collect sends a model's values.
func (m *described) collect(out chan<- prometheus.Metric, c *pool.Counts, model ...string) {
	if m.histogram != nil {
		out <- constHistogram(m.desc, m.histogram(c), model)
		return
	}

	valueType := prometheus.GaugeValue
	if m.kind == counter {
		valueType = prometheus.CounterValue
	}
	for _, s := range m.read(c) {
		out <- prometheus.MustNewConstMetric(m.desc, valueType, s.n, slices.Concat(model, s.labels)...)
	}
}

func constHistogram(desc *prometheus.Desc, h *engine.Histogram, labels []string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Bounds))
	var count uint64
	for i, bound := range h.Bounds {
		count += h.Counts[i]
		buckets[bound] = count
	}
	if len(h.Counts) > 0 {
		count += h.Counts[len(h.Bounds)]
	}
	return prometheus.MustNewConstHistogram(desc, count, h.Sum, buckets, labels...)
}
