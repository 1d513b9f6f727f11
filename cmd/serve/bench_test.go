package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/loadgen"
)

// bench runs the command and returns what it measured.
func bench(t *testing.T, args ...string) *loadgen.Report {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(
		t.Context(), append([]string{"bench", "--json"}, args...), []string{"SERVE_HOME=" + t.TempDir()}, &out, &errOut,
	)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, &errOut)
	}
	var r loadgen.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	return &r
}

// TestBenchAgrees compares what bench counts with what the server says of itself.
func TestBenchAgrees(t *testing.T) {
	s := startServe(t, modelFile(t), "--parallel", "4")
	for name, args := range map[string][]string{
		"clients":     {"--clients", "6", "--requests", "30", "--prompt", "20-200", "--answer", "5-50"},
		"completions": {"--completions", "--clients", "3", "--requests", "12", "--prompt", "64", "--answer", "16"},
		"arrivals":    {"--rate", "200", "--requests", "20", "--prompt", "64", "--shared-prefix", "48", "--answer", "16"},
	} {
		r := bench(t, append([]string{s.url}, args...)...)
		if r.Server == nil || r.Answered != r.Workload.Requests || r.Server.Choices != r.Answered ||
			r.Server.AnswerTokens != r.AnswerTokens || r.Server.PromptTokens != r.PromptTokens {
			t.Errorf("%s: %+v\n%+v", name, r, r.Server)
		}
		// The engine's clock starts after ours and stops before it: whatever a chat's rendering and HTTP take.
		if r.Server != nil && (r.Server.FirstToken > r.First.Mean || r.Server.FirstToken == 0) {
			t.Errorf("%s: first token after %g s, and %g s as the server says", name, r.First.Mean, r.Server.FirstToken)
		}
	}
	r := bench(t, s.url, "--rate", "200", "--requests", "20", "--prompt", "128", "--shared-prefix", "112", "--answer", "4")
	if r.CachedTokens < 20*64 {
		t.Errorf("%d tokens came from the cache", r.CachedTokens)
	}
}

// TestBenchAloneAndBeside serves a model for the run, and puts two runs side by side.
func TestBenchAloneAndBeside(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "a.json")
	second := filepath.Join(dir, "b.json")
	svg := filepath.Join(dir, "r.svg")
	trace := filepath.Join(dir, "trace.jsonl")
	err := os.WriteFile(
		trace,
		[]byte(
			`{"timestamp":0,"input_length":40,"output_length":7}`+"\n"+`{"timestamp":20,"input_length":60,"output_length":9}`,
		),
		0o600,
	)
	if err != nil {
		t.Fatal(err)
	}

	r := bench(t, modelFile(t), "--trace", trace)
	if r.AnswerTokens != 16 || r.Model != "tiny" || r.Workload.Trace != trace {
		t.Errorf("%+v", r)
	}

	for _, name := range []string{first, second} {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	var out, errOut bytes.Buffer
	code := run(t.Context(), []string{"bench", first, "--against", second, "--report", svg}, nil, &out, &errOut)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, &errOut)
	}
	if text := out.String(); !strings.Contains(text, "baseline") || !strings.Contains(text, "1.00 x") ||
		!strings.Contains(text, "time to first token\n") {
		t.Errorf("said:\n%s", text)
	}
	if b, err := os.ReadFile(svg); err != nil || !bytes.HasPrefix(b, []byte("<svg ")) {
		t.Errorf("drew %.40s, %v", b, err)
	}
}

func TestBenchRefuses(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}

	for want, args := range map[string][]string{
		"takes a URL":                             {},
		`"x" must be a number of tokens`:          {"http://127.0.0.1:1", "--prompt", "x"},
		`"9-3" must be a number of tokens`:        {"http://127.0.0.1:1", "--answer", "9-3"},
		"cannot be used together":                 {"http://127.0.0.1:1", "--clients", "2", "--rate", "1"},
		"shared prefix":                           {"http://127.0.0.1:1", "--shared-prefix", "999"},
		"does not contain the results of a run":   {bad},
		"no such file":                            {"http://127.0.0.1:1", "--trace", filepath.Join(dir, "none")},
		"no server answers at http://127.0.0.1:1": {"http://127.0.0.1:1"},
	} {
		var out, errOut bytes.Buffer
		code := run(t.Context(), append([]string{"bench"}, args...), nil, &out, &errOut)
		if code == 0 || !strings.Contains(errOut.String(), want) ||
			out.Len() > 0 {
			t.Errorf("%v: %d, %s%s", args, code, &out, &errOut)
		}
	}

	s := startServe(t, modelFile(t))
	var out, errOut bytes.Buffer
	code := run(t.Context(), []string{"bench", s.url, "--model", "none"}, nil, &out, &errOut)
	if code != exitUsage ||
		!strings.Contains(errOut.String(), "one of tiny") {
		t.Errorf("%d %s", code, &errOut)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := run(ctx, []string{"bench", s.url}, nil, &out, &errOut); code != exitInterrupted {
		t.Errorf("interrupted: %d %s", code, &errOut)
	}
}
