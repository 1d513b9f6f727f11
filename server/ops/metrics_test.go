package ops_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
	"serve/testfiles"
)

// TestMetrics adds up what clients counted, of answers that were finished, cut, given
// up and refused, and compares it with what the server says.
func TestMetrics(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	var prompts, answers, choices, gaps atomic.Int64
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			n := 1 + i%3
			_, body := servertest.Post(
				t,
				hs,
				"/v1/completions",
				fmt.Sprintf(`{"model":"fake","prompt":"prompt %d","n":%d,"max_tokens":%d,"ignore_eos":true}`, i, n, 5+i),
			)
			var reply struct {
				Usage struct {
					PromptTokens     int `json:"prompt_tokens"`
					CompletionTokens int `json:"completion_tokens"`
				}
			}
			if err := json.Unmarshal([]byte(body), &reply); err != nil {
				t.Error(err, body)
			}
			prompts.Add(int64(reply.Usage.PromptTokens))
			answers.Add(int64(reply.Usage.CompletionTokens))
			choices.Add(int64(n))
			gaps.Add(int64(reply.Usage.CompletionTokens - n))
		})
	}

	wg.Wait()
	servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":""}`)
	servertest.Request(t, hs, http.MethodGet, "/v1/anything/"+strings.Repeat("x", 99))
	got := servertest.Scrape(t, hs.URL)
	for key, want := range map[string]int64{
		"serve_answer_tokens_total fake":                  answers.Load(),
		"serve_answer_tokens fake sum":                    answers.Load(),
		"serve_answer_tokens fake count":                  choices.Load(),
		"serve_prompt_tokens fake sum":                    prompts.Load(),
		"serve_prompt_tokens fake count":                  24,
		"serve_choices_total fake length":                 choices.Load(),
		"serve_choices_total fake error":                  0,
		"serve_time_to_first_token_seconds fake count":    choices.Load(),
		"serve_queue_seconds fake count":                  choices.Load(),
		"serve_choice_seconds fake count":                 choices.Load(),
		"serve_inter_token_seconds fake count":            gaps.Load(),
		"serve_step_sequences fake sum":                   answers.Load(),
		"serve_choices_running fake":                      0,
		"serve_choices_waiting fake":                      0,
		"serve_model_loaded fake":                         1,
		"serve_model_loads_total fake":                    1,
		"serve_model_device CUDA0 fake":                   1,
		"serve_model_gpu_unused fake":                     0,
		"serve_http_requests_total /completions POST 200": 24,
		"serve_http_requests_total /completions POST 400": 1,
		"serve_http_requests_total other GET 404":         1,
		"serve_http_request_seconds /completions count":   25,
		"serve_kv_cells fake running":                     0,
	} {
		if v, ok := got[key]; !ok || v != float64(want) {
			t.Errorf("%s is %v (%v), clients counted %d", key, v, ok, want)
		}
	}

	cells := got["serve_kv_cells fake kept"] + got["serve_kv_cells fake free"]
	if l := s.Engine.Limits(); cells != float64(l.Cells) {
		t.Errorf("%v cells of %d", cells, l.Cells)
	}

	// A client that goes is counted as one, and what it got stays counted.
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(
		ctx,
		http.MethodPost,
		hs.URL+"/v1/completions",
		strings.NewReader(`{"model":"fake","prompt":"x","max_tokens":200,"ignore_eos":true,"stream":true}`),
	)
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := io.ReadFull(res.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}

	cancel()
	res.Body.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		now := servertest.Scrape(t, hs.URL)
		if ended := now["serve_choices_total fake cancelled"] +
			now["serve_choices_total fake length"] - got["serve_choices_total fake length"]; ended == 1 {
			if now["serve_answer_tokens fake sum"] != now["serve_answer_tokens_total fake"] {
				t.Errorf(
					"%v tokens in answers, %v in all", now["serve_answer_tokens fake sum"], now["serve_answer_tokens_total fake"],
				)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the choice never ended")
		}
	}
}

// TestMetricsAreDocumented looks for every metric of ours in docs/metrics.md, and for
// every one there at /metrics.
func TestMetricsAreDocumented(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"x","max_tokens":2}`)
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(doc), "<!-- metrics: end -->")

	told := map[string]bool{}
	for _, found := range regexp.MustCompile("(?m)^\\| `(serve_[a-z_]+)").FindAllStringSubmatch(text, -1) {
		told[found[1]] = true
	}

	there := map[string]bool{}
	for key := range servertest.Scrape(t, hs.URL) {
		if name, _, _ := strings.Cut(key, " "); strings.HasPrefix(name, "serve_") {
			there[name] = true
		}
	}
	if !maps.Equal(told, there) {
		t.Errorf(
			"docs/metrics.md tells of %v, /metrics of %v", slices.Sorted(maps.Keys(told)), slices.Sorted(maps.Keys(there)),
		)
	}
}

// TestDashboard looks for every metric that the dashboard and the alerts read among those
// that are there, and has promtool read the dashboard's expressions and /metrics itself.
func TestDashboard(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"x","max_tokens":2}`)
	there := map[string]bool{}
	for key := range servertest.Scrape(t, hs.URL) {
		name, _, _ := strings.Cut(key, " ")
		there[name] = true
	}

	var dashboard struct {
		Panels []struct {
			Title       string
			Type        string
			Description string
			Targets     []struct{ Expr string }
		}
	}

	operations := testfiles.Like(t, "../../docs/operations/*")
	if err := json.Unmarshal(operations["../../docs/operations/dashboard.json"], &dashboard); err != nil {
		t.Fatal(err)
	}

	variables := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$model", ".*")
	rules := "groups: [{name: dashboard, rules: ["
	n := 0
	for _, p := range dashboard.Panels {
		if p.Type != "row" && (len(p.Targets) == 0 || p.Description == "") {
			t.Errorf("%s shows nothing, or does not say what", p.Title)
		}
		for _, target := range p.Targets {
			rules += fmt.Sprintf("{record: 'dashboard:%d', expr: %q},", n, variables.Replace(target.Expr))
			n++
		}
	}

	read := regexp.MustCompile(`\bserve_[a-z_]+`)
	for _, name := range read.FindAllString(rules+string(operations["../../docs/operations/alerts.yml"]), -1) {
		if !there[name] && !there[strings.TrimSuffix(name, "_bucket")] {
			t.Errorf("nobody tells %s", name)
		}
	}

	promtool := os.Getenv("TEST_PROMTOOL")
	if promtool == "" {
		t.Skip("make monitoring has promtool read the expressions")
	}

	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, []byte(rules+"]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	if out, err := exec.Command(promtool, "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	res, err := http.Get(hs.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lint := exec.Command(promtool, "check", "metrics")
	lint.Stdin = res.Body
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("/metrics: %v\n%s", err, out)
	}
}
