package ops_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/ops"
	"serve/server/servertest"
	"serve/testfiles"
)

// pickers are the metrics that llm-d's router reads of a server, by its names of them in an engineConfig; those of vLLM
// are the ones that it has by itself, and ours are those of deploy/kubernetes. The others are what its autoscaler reads.
var pickers = map[string][]string{
	"serve": {
		"serve_requests_waiting", "serve_choices_running", "serve_kv_usage_ratio", "serve_cache_info",
	},
	ops.NamesVLLM: {
		"vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc", "vllm:cache_config_info",
		"vllm:request_success_total", "vllm:request_prompt_tokens", "vllm:request_generation_tokens",
		"vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds", "vllm:prefix_cache_hits_total",
		"vllm:prefix_cache_queries_total",
	},
}

// TestPickerContract reads the metrics as llm-d's router does, by both names, while the model computes a step that does
// not end: two choices are in it, and three requests wait. What is read then must be there without waiting for the step.
func TestPickerContract(t *testing.T) {
	for names, wanted := range pickers {
		t.Run(names, func(t *testing.T) {
			b := newBusy(t, 2, enginetest.Options{
				Limits: engine.Limits{Sequences: 2, Context: 4096, Cells: 8192, Batch: 512},
			}, server.Options{MetricNames: names})
			b.ask(3)

			families := scrape(t, b.hs.URL)
			for has := func() float64 { return gaugeOf(families, wanted[0]) }; has() != 3; {
				families = scrape(t, b.hs.URL)
			}
			var list strings.Builder
			for _, name := range wanted {
				writeFamily(&list, families[name], name)
			}
			testfiles.Golden(t, "picker-"+names+".txt", list.String(), *ops.Update)

			if names == "serve" {
				for name := range families {
					if strings.HasPrefix(name, "vllm") {
						t.Errorf("there is %s, which nobody has asked for", name)
					}
				}
			}
			if used := gaugeOf(families, wanted[2]); used <= 0 || used > 1 {
				t.Errorf("%s is %v, which is no fraction of the cells", wanted[2], used)
			}
		})
	}
}

// TestPickerConfiguration looks in the chart's configuration of the picker for our metrics.
func TestPickerConfiguration(t *testing.T) {
	const path = "../../deploy/kubernetes/picker.yaml"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, found := range regexp.MustCompile(`(?m)Spec: (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		named = append(named, found[1])
	}
	if !slices.Equal(named, pickers["serve"]) {
		t.Errorf("%s has a picker read %q; tested are %q", path, named, pickers["serve"])
	}
}

// writeFamily writes a family with its type and the labels of its series. The values of gauges are there that depend on
// no timing.
func writeFamily(w io.Writer, family *dto.MetricFamily, name string) {
	if family == nil {
		fmt.Fprintf(w, "%s is missing\n", name)
		return
	}
	var list []string
	for _, m := range family.Metric {
		line := name + " " + strings.ToLower(family.GetType().String())
		for _, label := range m.Label {
			line += fmt.Sprintf(" %s=%q", label.GetName(), label.GetValue())
		}
		if v := m.GetGauge().GetValue(); m.Gauge != nil && v >= 1 {
			line += fmt.Sprintf(" %v", v)
		}
		list = append(list, line+"\n")
	}
	slices.Sort(list)
	io.WriteString(w, strings.Join(list, ""))
}

func gaugeOf(families map[string]*dto.MetricFamily, name string) float64 {
	family := families[name]
	if family == nil || len(family.Metric) == 0 {
		return -1
	}
	return family.Metric[0].GetGauge().GetValue()
}

func scrape(t testing.TB, url string) map[string]*dto.MetricFamily {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // one that waits for the step waits for ever
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// busy is a server whose fake computes a step that does not end before the test does.
type busy struct {
	t       testing.TB
	hs      *httptest.Server
	held    chan struct{} // closed while it computes that step
	clients sync.WaitGroup
}

// newBusy returns a server that computes n answers: none before all have been asked for, and then until a step gives
// each of them a token. The next step does not end.
func newBusy(t testing.TB, n int, fo enginetest.Options, so server.Options) *busy {
	t.Helper()
	b := &busy{t: t, held: make(chan struct{})}
	asked := make(chan struct{})
	release := make(chan struct{})
	full := 0
	fo.BeforeDecode = func(batch *engine.Batch) error {
		<-asked
		rows := 0
		for _, wanted := range batch.Outputs {
			rows += int(wanted)
		}
		if rows != n {
			return nil
		}
		if full++; full == 2 {
			close(b.held)
			<-release
		}
		return nil
	}
	b.hs, _ = servertest.Start(t, fo, so)
	t.Cleanup(func() {
		close(release)
		b.clients.Wait()
	})

	b.ask(n)
	for there := 0.; int(there) != n-1; { // one is in the first step
		there = gaugeOf(scrape(t, b.hs.URL), "serve_requests_waiting")
	}
	close(asked)
	<-b.held
	return b
}

// ask asks for n answers, each of them a request.
func (b *busy) ask(n int) {
	for i := range n {
		b.clients.Go(func() {
			body := fmt.Sprintf(`{"model":"fake","prompt":"number %d","max_tokens":100,"ignore_eos":true}`, i)
			res, err := http.Post(b.hs.URL+"/v1/completions", "application/json", strings.NewReader(body))
			if err != nil {
				b.t.Error(err)
				return
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				b.t.Errorf("a request got %s", res.Status)
			}
		})
	}
}

// BenchmarkMetrics measures what the server takes for /metrics while 256 choices are in a step. llm-d's router reads
// every server 20 times a second.
func BenchmarkMetrics(b *testing.B) {
	for _, names := range slices.Sorted(maps.Keys(pickers)) {
		b.Run(names, func(b *testing.B) {
			busy := newBusy(b, 256, enginetest.Options{
				Limits: engine.Limits{Sequences: 256, Context: 8192, Cells: 256 * 8192, Batch: 512},
			}, server.Options{MetricNames: names})
			if n := gaugeOf(scrape(b, busy.hs.URL), "serve_choices_running"); n != 256 {
				b.Fatalf("%v choices are running", n)
			}

			req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			req.Header.Set("Accept-Encoding", "gzip") // as Go's clients send it
			for b.Loop() {
				rec := httptest.NewRecorder()
				busy.hs.Config.Handler.ServeHTTP(rec, req.Clone(b.Context()))
				if rec.Code != http.StatusOK {
					b.Fatal(rec.Code)
				}
			}
		})
	}
}
