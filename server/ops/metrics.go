package ops

import (
	"net/http"
	"strconv"
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
			Name: "serve_http_requests_total",
			Help: "HTTP requests answered, by endpoint, method and status.",
		}, []string{"endpoint", "method", "status"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "serve_http_request_seconds",
			Help:    "Time from an HTTP request to the end of its answer.",
			Buckets: []float64{.001, .01, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300},
		}, []string{"endpoint"}),
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

// engineCollector collects the metrics of all models.
type engineCollector struct{ o *Ops }

// sample is the value of a metric, for one value of its label if it has one.
type sample struct {
	label string
	n     float64
}

// modelMetrics is the table of a model's metrics; docs/metrics.md documents them.
var modelMetrics = []struct {
	name  string
	help  string
	label string // besides the model; empty for none
	kind  prometheus.ValueType
	read  func(*pool.Counts) []sample
}{
	{
		name: "serve_model_loaded",
		help: "Whether the model is in memory.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample {
			if c.Loaded {
				return one(1)
			}
			return one(0)
		},
	},
	{
		name: "serve_model_memory_bytes",
		help: "Memory that the model was planned to take, while it is loaded.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample { return one(c.Bytes) },
	},
	{
		name: "serve_model_resident_bytes",
		help: "Memory that the model's process takes, mapped weights included.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample {
			if c.Process.Resident == 0 {
				return nil
			}
			return one(c.Process.Resident)
		},
	},
	{
		name:  "serve_model_kernels",
		help:  "The processor's kernels that the model computes with: 1.",
		label: "kernels",
		kind:  prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample {
			if c.Kernels.Name == "" {
				return nil
			}
			return []sample{{c.Kernels.Name, 1}}
		},
	},
	{
		name:  "serve_kernels_refused",
		help:  "Kernels that failed on this processor and are not used any more: 1.",
		label: "kernels",
		kind:  prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample {
			var list []sample
			for name := range c.Kernels.Refused {
				list = append(list, sample{name, 1})
			}
			return list
		},
	},
	{
		name:  "serve_model_device",
		help:  "Devices that compute the model, each 1.",
		label: "device",
		kind:  prometheus.GaugeValue,
		read: func(c *pool.Counts) (list []sample) {
			for _, d := range c.Devices {
				list = append(list, sample{d.Name, 1})
			}
			return list
		},
	},
	{
		name: "serve_model_gpu_unused",
		help: "Whether the processor computes the model though the machine has a GPU.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample {
			if c.WhyProcessor != "" {
				return one(1)
			}
			return one(0)
		},
	},
	{
		name:  "serve_model_planned_bytes",
		help:  "Memory that the model was planned to take of a device, while it is loaded.",
		label: "device",
		kind:  prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample {
			return byDevice(c, func(d pool.DeviceMemory) uint64 { return d.Planned })
		},
	},
	{
		name:  "serve_model_taken_bytes",
		help:  "Memory that the model takes of a device: of the host now, of a card since its load.",
		label: "device",
		kind:  prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample {
			return byDevice(c, func(d pool.DeviceMemory) uint64 { return d.Taken })
		},
	},
	{
		name: "serve_model_loads_total",
		help: "Times that the model was loaded.",
		kind: prometheus.CounterValue,
		read: func(c *pool.Counts) []sample { return one(c.Loads) },
	},
	{
		name: "serve_model_load_seconds",
		help: "Time that the last load took, and the wait for room before it.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample { return one(c.LoadTime.Seconds()) },
	},
	{
		name: "serve_choices_running",
		help: "Choices in the batch.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample { return one(c.Running) },
	},
	{
		name: "serve_choices_waiting",
		help: "Choices and embedding inputs in the queue.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample { return one(c.Waiting) },
	},
	{
		name:  "serve_kv_cells",
		help:  "KV cells: held by running choices, kept for prompts that begin alike, free.",
		label: "state",
		kind:  prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample {
			free := max(0, c.Cells-c.CellsUsed-c.CellsIdle)
			return []sample{
				{"running", float64(c.CellsUsed)},
				{"kept", float64(c.CellsIdle)},
				{"free", float64(free)},
			}
		},
	},
	{
		name: "serve_kv_usage_ratio",
		help: "Part of the KV cells that running choices hold, from 0 to 1.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample {
			return one(float64(c.CellsUsed) / float64(max(1, c.Cells)))
		},
	},
	{
		name:  "serve_prefix_reuse_total",
		help:  "Choices that got a place in the batch, by what they found to reuse, or why nothing.",
		label: "result",
		kind:  prometheus.CounterValue,
		read: func(c *pool.Counts) []sample {
			return byLabel(c.Reuse)
		},
	},
	{
		name:  "serve_prompt_tokens_total",
		help:  "Prompt tokens: computed, or reused from cells of an earlier prompt.",
		label: "source",
		kind:  prometheus.CounterValue,
		read: func(c *pool.Counts) []sample {
			return []sample{{"computed", float64(c.Prompt)}, {"reused", float64(c.Cached)}}
		},
	},
	{
		name: "serve_answer_tokens_total",
		help: "Tokens of answers.",
		kind: prometheus.CounterValue,
		read: func(c *pool.Counts) []sample { return one(c.Tokens) },
	},
	{
		name:  "serve_ended_tokens_total",
		help:  "Tokens of answers whose choices ended, by how.",
		label: "outcome",
		kind:  prometheus.CounterValue,
		read:  func(c *pool.Counts) []sample { return byLabel(c.Ended) },
	},
	{
		name:  "serve_choices_total",
		help:  "Choices that ended, by how.",
		label: "outcome",
		kind:  prometheus.CounterValue,
		read:  func(c *pool.Counts) []sample { return byLabel(c.Outcomes) },
	},
	{
		name:  "serve_refused_total",
		help:  "Requests that were not queued, by why.",
		label: "reason",
		kind:  prometheus.CounterValue,
		read:  func(c *pool.Counts) []sample { return byLabel(c.Refused) },
	},
	{
		name: "serve_requests_waiting",
		help: "Requests in the queue.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample { return one(c.Queued) },
	},
	{
		name: "serve_prompt_tokens_waiting",
		help: "Tokens of the prompts in the queue.",
		kind: prometheus.GaugeValue,
		read: func(c *pool.Counts) []sample { return one(c.WaitingTokens) },
	},
	{
		name: "serve_steps_total",
		help: "Steps that the engine made.",
		kind: prometheus.CounterValue,
		read: func(c *pool.Counts) []sample { return one(c.Steps) },
	},
	{
		name: "serve_engine_restarts_total",
		help: "Times that the engine died and was started again.",
		kind: prometheus.CounterValue,
		read: func(c *pool.Counts) []sample { return one(c.Restarts) },
	},
	{
		name: "serve_preemptions_total",
		help: "Choices whose cells were taken and computed again.",
		kind: prometheus.CounterValue,
		read: func(c *pool.Counts) []sample { return one(c.Preempted) },
	},
}

func byLabel[L ~string](counts map[L]uint64) []sample {
	list := make([]sample, 0, len(counts))
	for label, n := range counts {
		list = append(list, sample{string(label), float64(n)})
	}
	return list
}

// byDevice returns a sample for each device, except where the value is unknown.
func byDevice(c *pool.Counts, bytes func(pool.DeviceMemory) uint64) (list []sample) {
	for _, d := range c.Memory {
		if n := bytes(d); n > 0 {
			list = append(list, sample{d.Device, float64(n)})
		}
	}
	return list
}

func one[T int | uint64 | float64](n T) []sample { return []sample{{"", float64(n)}} }

var modelHistograms = []struct {
	name string
	help string
	read func(*pool.Counts) *engine.Histogram
}{
	{
		name: "serve_time_to_first_token_seconds",
		help: "Time from a choice's arrival to its first token.",
		read: func(c *pool.Counts) *engine.Histogram { return &c.FirstToken },
	},
	{
		name: "serve_inter_token_seconds",
		help: "Time between two tokens of a choice.",
		read: func(c *pool.Counts) *engine.Histogram { return &c.Gap },
	},
	{
		name: "serve_queue_seconds",
		help: "Time from a choice's arrival to its place in the batch.",
		read: func(c *pool.Counts) *engine.Histogram { return &c.Queue },
	},
	{
		name: "serve_choice_seconds",
		help: "Time from a choice's arrival to its end.",
		read: func(c *pool.Counts) *engine.Histogram { return &c.Whole },
	},
	{
		name: "serve_prompt_tokens",
		help: "Tokens of a request's prompt.",
		read: func(c *pool.Counts) *engine.Histogram { return &c.Prompts },
	},
	{
		name: "serve_answer_tokens",
		help: "Tokens of a choice's answer.",
		read: func(c *pool.Counts) *engine.Histogram { return &c.Answers },
	},
	{
		name: "serve_step_sequences",
		help: "Sequences that a step drew tokens for.",
		read: func(c *pool.Counts) *engine.Histogram { return &c.Rows },
	},
}

// Describe implements prometheus.Collector. It sends nothing, which makes the collector unchecked.
func (engineCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (e engineCollector) Collect(out chan<- prometheus.Metric) {
	for _, m := range e.o.opts.Service.Models() {
		c := e.o.opts.Pool.Counts(m)
		collectNumbers(out, m.ID, &c)
		collectHistograms(out, m.ID, &c)
	}
}

func collectNumbers(out chan<- prometheus.Metric, model string, c *pool.Counts) {
	for _, metric := range modelMetrics {
		labels := []string{"model"}
		if metric.label != "" {
			labels = append(labels, metric.label)
		}
		desc := prometheus.NewDesc(metric.name, metric.help, labels, nil)
		for _, s := range metric.read(c) {
			values := []string{model, s.label}[:len(labels)]
			out <- prometheus.MustNewConstMetric(desc, metric.kind, s.n, values...)
		}
	}
}

func collectHistograms(out chan<- prometheus.Metric, model string, c *pool.Counts) {
	for _, metric := range modelHistograms {
		h := metric.read(c)
		buckets := make(map[float64]uint64, len(h.Bounds))
		var count uint64
		for i, bound := range h.Bounds {
			count += h.Counts[i]
			buckets[bound] = count
		}
		if len(h.Counts) > 0 {
			count += h.Counts[len(h.Bounds)]
		}

		desc := prometheus.NewDesc(metric.name, metric.help, []string{"model"}, nil)
		out <- prometheus.MustNewConstHistogram(desc, count, h.Sum, buckets, model)
	}
}
