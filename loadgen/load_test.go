package loadgen

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestLengths(t *testing.T) {
	for text, want := range map[string]Lengths{"128": {128, 128}, "100-500": {100, 500}, "7-7": {7, 7}} {
		if got, err := ParseLengths(text); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-5", "5-", "9-3", "a", "1-99999999999", "1.5"} {
		if got, err := ParseLengths(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// plan returns the requests of a workload that is in order.
func plan(t *testing.T, w *Workload) []Request {
	t.Helper()
	list, err := w.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestPlan draws the same requests from the same workload, and others from another.
func TestPlan(t *testing.T) {
	w := Workload{
		Rate:     50,
		Requests: 2000,
		Prompt:   Lengths{100, 200},
		Answer:   Lengths{5, 5},
		Shared:   40,
		Groups:   3,
		Seed:     7,
	}
	list := plan(t, &w)
	if !slices.EqualFunc(list, plan(t, &w), func(a, b Request) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		t.Error("the same workload has other requests")
	}

	seen := map[int]int{}
	for i, q := range list {
		if q.Prompt < 100 || q.Prompt > 200 || q.Answer != 5 || i > 0 && q.At < list[i-1].At || q.Prefix[0].tokens != 40 {
			t.Fatalf("request %d: %+v", i, q)
		}
		seen[q.Prefix[0].id]++
	}

	if len(seen) != 3 {
		t.Errorf("groups: %v", seen)
	}
	// 2000 arrivals at 50 a second take 40 s, give or take four times 40/sqrt(2000).
	if took := list[len(list)-1].At.Seconds(); math.Abs(took-40) > 3.6 {
		t.Errorf("they arrive in %.1f s", took)
	}

	w.Seed = 8
	if other := plan(t, &w); other[1].At == list[1].At {
		t.Error("another seed draws the same")
	}
}

// TestWorkloads refuses those that make no sense.
func TestWorkloads(t *testing.T) {
	good := Workload{Prompt: Lengths{10, 10}, Answer: Lengths{1, 1}}
	defaults := good
	if list := plan(t, &defaults); len(list) != 64 || defaults.Clients != 8 {
		t.Errorf("%d requests, %d clients", len(list), defaults.Clients)
	}

	for name, spoil := range map[string]func(*Workload){
		"both": func(w *Workload) {
			w.Clients = 1
			w.Rate = 1
		},
		"negative clients": func(w *Workload) { w.Clients = -1 },
		"negative rate":    func(w *Workload) { w.Rate = -1 },
		"no request":       func(w *Workload) { w.Requests = -1 },
		"too many":         func(w *Workload) { w.Requests = maxRequests + 1 },
		"too much shared":  func(w *Workload) { w.Shared = 11 },
		"groups":           func(w *Workload) { w.Groups = -1 },
	} {
		w := good
		spoil(&w)
		if _, err := w.Plan(); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestTrace(t *testing.T) {
	list, err := ReadTrace(
		strings.NewReader(`{"timestamp": 0, "input_length": 1100, "output_length": 20, "hash_ids": [5, 6, 7]}

{"timestamp": 1500, "input_length": 30, "output_length": 1}
`),
	)
	if err != nil || len(list) != 2 || list[1].At != 1500*time.Millisecond || list[1].Prompt != 30 ||
		!slices.Equal(list[0].Prefix, []prefix{{5, 512}, {6, 512}}) {
		t.Errorf("%+v %v", list, err)
	}
	for _, text := range []string{
		"", "{", `{"timestamp":0,"input_length":0,"output_length":1}`, `{"timestamp":-1,"input_length":1,"output_length":1}`,
		`{"timestamp":0,"input_length":1,"output_length":99999999}`,
		"{\"timestamp\":5,\"input_length\":1,\"output_length\":1}\n{\"timestamp\":4,\"input_length\":1,\"output_length\":1}",
	} {
		if _, err := ReadTrace(strings.NewReader(text)); err == nil {
			t.Errorf("%q: not refused", text)
		}
	}
}

func FuzzTrace(f *testing.F) {
	f.Add(`{"timestamp": 0, "input_length": 1100, "output_length": 20, "hash_ids": [5, 6, 7]}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ReadTrace(strings.NewReader(text))
		if err == nil && len(list) == 0 {
			t.Error("nothing, and no error")
		}
		for _, q := range list {
			if q.At < 0 || q.Prompt < 1 || q.Answer < 1 {
				t.Errorf("%+v", q)
			}
		}
	})
}

// TestPrompts are as long as they should be, and begin alike where they should.
func TestPrompts(t *testing.T) {
	w := &Writer{seed: 3, perWord: 1.25, overhead: 10}
	shared := []prefix{{1, 60}}
	a := w.text(&Request{Prompt: 200, Prefix: shared}, 1)
	b := w.text(&Request{Prompt: 200, Prefix: shared}, 2)
	c := w.text(&Request{Prompt: 200}, 1)
	d := w.text(&Request{Prompt: 200}, 2)
	common := func(a, b string) int {
		x := strings.Fields(a)
		y := strings.Fields(b)
		n := 0
		for n < min(len(x), len(y)) && x[n] == y[n] {
			n++
		}
		return n
	}

	if n := len(strings.Fields(a)); n != 152 { // (200-10)/1.25
		t.Errorf("%d words", n)
	}
	if n := common(a, b); n < 40 || n > 44 { // (60-10)/1.25, and some luck
		t.Errorf("%d words in common", n)
	}
	if n := common(c, d); n > 3 {
		t.Errorf("%d words in common without a prefix", n)
	}
	if a != w.text(&Request{Prompt: 200, Prefix: shared}, 1) {
		t.Error("the same request has another text")
	}

	if n := len(strings.Fields(w.Text(100, 1))); n != 80 || w.Text(100, 1) == w.Text(100, 2) { // 100/1.25
		t.Errorf("%d words without a template", n)
	}
}

// stub answers as a server does, with these lines; status 0 is 200.
func stub(t *testing.T, handle http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return &Client{URL: s.URL + "/v1/", Key: "secret", HTTP: NewHTTP(&http.Transport{})}
}

const told = `data: {"choices":[{"delta":{"role":"assistant","content":""}}]}

: a comment

data: {"choices":[{"delta":{"content":"a"}}]}

data: {"choices":[{"delta":{"reasoning_content":"b"}}]}

data: {"choices":[{"delta":{},"finish_reason":"stop"}]}

data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}}

data: [DONE]

`

func TestAsk(t *testing.T) {
	c := stub(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var q map[string]any
		err := json.Unmarshal(body, &q)
		if err != nil || r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer secret" ||
			q["model"] != "m" || q["max_tokens"] != 5.0 || q["temperature"] != 0.0 || q["stream"] != true {
			t.Errorf("%s %v %s", r.URL.Path, r.Header, body)
		}
		io.WriteString(w, told)
	})
	events := 0
	a, err := c.Ask(
		t.Context(),
		Call{
			Model:  "m",
			Prompt: "p",
			Tokens: 5,
			Chat:   true,
			Fields: map[string]any{"temperature": 0},
			Event:  func(time.Time) { events++ },
		},
	)
	if err != nil || a.Events != 2 || events != 2 || len(a.Gaps) != 1 || a.Prompt != 7 || a.Cached != 2 ||
		!a.CacheReported || a.Text != "a" || a.Answered != 3 || a.First <= 0 || a.Took < a.First {
		t.Errorf("%+v %v", a, err)
	}
}

// TestToolCalls tells answers that call a tool from those that do not.
func TestToolCalls(t *testing.T) {
	for calls, want := range map[string]bool{`[{"index":0}]`: true, `[]`: false, `null`: false} {
		c := stub(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"tool_calls\":%s}}]}\n\ndata: [DONE]\n\n", calls)
		})
		a, err := c.Ask(t.Context(), Call{Model: "m", Tokens: 1, Chat: true})
		if err != nil || a.Tools != want || (a.Events == 1) != want || a.CacheReported {
			t.Errorf("%s: %+v %v", calls, a, err)
		}
	}
}

func TestAskFails(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"refused":      {429, `{"error":{"message":"The queue is full."}}`, "429: The queue is full."},
		"no json":      {502, "<html>", "502: <html>"},
		"broken off":   {200, "data: {\"choices\":[{\"text\":\"a\"}]}\n\n", "without [DONE]"},
		"an error":     {200, "data: {\"error\":{\"message\":\"the engine died\"}}\n\n", "the engine died"},
		"no json line": {200, "data: {\n\n", "not JSON"},
	} {
		client := stub(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		})
		_, err := client.Ask(t.Context(), Call{Model: "m", Tokens: 1})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}

		var no *StatusError
		if errors.As(err, &no) != (c.status != 200) {
			t.Errorf("%s: %T", name, err)
		}
	}
}

// TestRun has clients ask a server that refuses every fifth request, and one that is
// stopped in the middle.
func TestRun(t *testing.T) {
	var asked atomic.Int64
	handle := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			http.NotFound(w, r)
			return
		}
		var q struct {
			Prompt string
			Max    int `json:"max_tokens"`
		}
		json.NewDecoder(r.Body).Decode(&q)
		if n := asked.Add(1); n > 2 && n%5 == 0 {
			w.WriteHeader(429)
			return
		}
		for range q.Max {
			io.WriteString(w, "data: {\"choices\":[{\"text\":\"a\"}]}\n\n")
		}
		fmt.Fprintf(
			w,
			"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d}}\n\ndata: [DONE]\n\n",
			4+2*len(strings.Fields(q.Prompt)),
			q.Max,
		)
	}
	for _, workload := range []Workload{
		{Clients: 3, Requests: 40, Prompt: Lengths{50, 60}, Answer: Lengths{4, 4}},
		{Rate: 10000, Requests: 40, Prompt: Lengths{50, 60}, Answer: Lengths{4, 4}},
	} {
		asked.Store(0)
		done := 0
		run := Run{
			Client:   stub(t, handle),
			Model:    "m",
			Workload: workload,
			Requests: plan(t, &workload),
			Done:     func(ended, of int) { done = max(done, ended) },
		}
		r, err := run.Do(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Answered != 32 || r.Refused != 8 || r.Failed != 0 || done != 40 || r.AnswerTokens != 4*32 || r.Server != nil ||
			r.First.Count != 32 || r.Gap.Count != 3*32 {
			t.Errorf("%+v", r)
		}
		if mean := float64(r.PromptTokens) / 32; mean < 49 || mean > 61 { // two tokens a word and four more, as it was told
			t.Errorf("prompts have %.1f tokens", mean)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	workload := Workload{Clients: 2, Requests: 50, Prompt: Lengths{20, 20}, Answer: Lengths{1, 1}}
	run := Run{
		Client:   stub(t, handle),
		Model:    "m",
		Workload: workload,
		Requests: plan(t, &workload),
		Done: func(ended, _ int) {
			if ended == 10 {
				cancel()
			}
		},
	}
	r, err := run.Do(ctx)
	if !errors.Is(err, context.Canceled) || r == nil || r.Left < 38 || r.Answered+r.Refused < 8 ||
		r.Answered+r.Refused+r.Left != 50 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestCalibration says what a server lacks.
func TestCalibration(t *testing.T) {
	for want, body := range map[string]string{
		"--natural":       "",
		"does not report": "data: [DONE]\n\n",
	} {
		c := stub(t, func(w http.ResponseWriter, _ *http.Request) {
			if body == "" {
				w.WriteHeader(400)
				io.WriteString(w, `{"error":{"message":"Unknown parameter: 'ignore_eos'."}}`)
			}
			io.WriteString(w, body)
		})
		w := Workload{Clients: 1, Requests: 1, Prompt: Lengths{9, 9}, Answer: Lengths{1, 1}}
		_, err := (&Run{Client: c, Workload: w, Requests: plan(t, &w)}).Do(t.Context())
		if err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestDistribution(t *testing.T) {
	var times []float64
	for i := 1000; i > 0; i-- {
		times = append(times, float64(i)/1000)
	}

	d := distribution(times)
	if d.Count != 1000 || d.P50 != 0.5 || d.P90 != 0.9 || d.P99 != 0.99 || d.Min != 0.001 || d.Max != 1 ||
		math.Abs(d.Mean-0.5005) > 1e-9 {
		t.Errorf("%+v", d)
	}

	sum := 0
	for i, b := range d.Bins {
		if sum += b.Count; b.Count == 0 || i > 0 && b.From < d.Bins[i-1].To*0.9999 {
			t.Errorf("bin %d: %+v", i, b)
		}
	}

	if sum != 1000 {
		t.Errorf("%d in bins", sum)
	}

	for _, plain := range []bool{false, true} {
		lines := d.Histogram(80, plain)
		if len(lines) < 5 {
			t.Errorf("%d lines", len(lines))
		}
		for _, l := range lines {
			if len([]rune(l)) > 80 || plain && strings.ContainsFunc(l, func(r rune) bool { return r > 127 && r != 'µ' }) {
				t.Errorf("%q", l)
			}
		}
	}

	if none := distribution(nil); none.Histogram(80, false) != nil || none.Count != 0 {
		t.Errorf("%+v", none)
	}
	if one := distribution([]float64{0, 0}); len(one.Histogram(80, true)) != 1 {
		t.Errorf("%+v", one)
	}
}

// TestSVG draws one run, two, and one without an answer; a name can do no harm.
func TestSVG(t *testing.T) {
	r := summarize(
		[]sample{
			{
				answer: Answer{
					First:    time.Millisecond,
					Took:     time.Second,
					Gaps:     []time.Duration{time.Millisecond},
					Answered: 2,
					Prompt:   3,
					Events:   2,
				},
			},
		},
		time.Second,
	)
	r.Model = `"><script>alert(1)</script>`
	for name, list := range map[string][2]*Report{"one": {r, nil}, "two": {r, r}, "nothing": {summarize(nil, 0), r}} {
		text := SVG(list[0], list[1])
		for d := xml.NewDecoder(bytes.NewReader(text)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "script" {
				t.Errorf("%s: a script", name)
			}
		}
		if name == "two" && !bytes.Contains(text, []byte("1.00 x")) {
			t.Errorf("%s: no ratio", name)
		}
	}
}

func TestSeconds(t *testing.T) {
	for want, v := range map[string]float64{"0": 0, "1 s": 1, "1.5 ms": 0.0015, "12.3 µs": 0.0000123, "100 s": 100,
		"250 ms": 0.25} {
		if got := Seconds(v); got != want {
			t.Errorf("%g: %s, not %s", v, got, want)
		}
	}
}
