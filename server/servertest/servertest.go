// Package servertest starts servers whose model is a fake, for tests.
package servertest

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/kernels"
	"serve/pool"
	"serve/server"
	"serve/service"
)

// Server is a server that listens. Its first model is the fake.
type Server struct {
	*server.Server
	Engine *engine.Engine // of the fake
	Model  *pool.Model    // the fake: "fake", "gpt-4o" or "org/fake"
}

// Hello is the messages of a request that only has to have some.
const Hello = `"messages":[{"role":"user","content":"Hello"}]`

// Start serves a fake model called "fake", also known as "gpt-4o" and "org/fake", beside those of
// the options, until the test ends.
func Start(t testing.TB, fo enginetest.Options, so server.Options) (*httptest.Server, *Server) {
	t.Helper()
	return StartEngine(t, fo, engine.Options{}, so)
}

// StartEngine is Start with an engine of its own kind.
func StartEngine(
	t testing.TB, fo enginetest.Options, eo engine.Options, so server.Options,
) (*httptest.Server, *Server) {
	t.Helper()
	s, end := Unconnected(t, fo, eo, so)
	hs := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		hs.Close()
		end()
	})
	return hs, s
}

// Unconnected is StartEngine without a network, for tests in virtual time. The caller calls end.
func Unconnected(
	t testing.TB, fo enginetest.Options, eo engine.Options, so server.Options,
) (started *Server, end func()) {
	t.Helper()
	fo.Limits.RollsBack = true
	fake := enginetest.New(fo)
	e := engine.New(fake, fake, eo)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.Run(ctx)
	}()

	model := &pool.Model{
		ID:      "fake",
		Aliases: []string{"gpt-4o", "org/fake"},
		Created: time.Unix(1700000000, 0),
		Load:    ready(e),
	}
	so.Hosts = append(so.Hosts, "example.com") // httptest's requests are for it
	if so.MaxCPU == 0 {
		so.MaxCPU = time.Minute // under the race detector, a second may be too little
	}
	so.Models = append([]*pool.Model{model}, so.Models...)
	if so.Log == nil {
		so.Log = slog.New(slog.DiscardHandler)
	}
	s, err := server.New(so)
	if err != nil {
		t.Fatal(err)
	}

	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}

	end = func() {
		s.Close()
		cancel()
		<-done
		for _, f := range fake.Faults() {
			t.Error("fault:", f)
		}
	}
	return &Server{Server: s, Engine: e, Model: model}, end
}

// TenantHeader is the header of the requests that Tenants reads.
const TenantHeader = "Test-Tenant"

// Tenants is a server's handler, to which each request brings its tenant in a header.
func Tenants(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := &service.Call{Tenant: r.Header.Get(TenantHeader)}
		h.ServeHTTP(w, r.WithContext(service.WithCall(r.Context(), call)))
	})
}

// ready is the load of a model that is there already.
func ready(e pool.Engine) pool.LoadFunc {
	return func(context.Context, bool) (*pool.Instance, error) {
		done := make(chan struct{})
		taken := []pool.MemoryUse{
			{Device: "CUDA0", Planned: 3 << 20},
			{Device: "host", Planned: 900 << 10, Taken: 1 << 20},
		}
		return &pool.Instance{
			Engine:  e,
			Done:    done,
			Stop:    sync.OnceFunc(func() { close(done) }),
			Kernels: kernels.Choice{Name: "abacus", Refused: map[string]kernels.Refusal{"slide rule": {}}},
			Process: func() pool.ProcessUse { return pool.ProcessUse{ID: 1, Resident: 1 << 20} },
			Devices: func() ([]pool.DeviceInfo, string) {
				return []pool.DeviceInfo{{Name: "CUDA0", Description: "a GPU"}}, ""
			},
			Memory: func() []pool.MemoryUse { return taken },
		}, nil
	}
}

// Post posts JSON, and returns the answer and its whole body.
func Post(t testing.TB, hs *httptest.Server, path, body string) (*http.Response, string) {
	t.Helper()
	res, err := http.Post(hs.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// Ask posts with headers, "name: value" each. It may be called by any goroutine.
func Ask(t testing.TB, hs *httptest.Server, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, hs.URL+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return &http.Response{}, ""
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}

	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return &http.Response{}, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res, string(text)
}

// Recorder is an engine that keeps what it was asked last.
type Recorder struct {
	pool.Engine
	Last    engine.Request
	Chats   []engine.Chat
	Rewrite func(*engine.Rendered) // changes what the template wrote, if set
	mu      sync.Mutex             // clients may ask several things at a time; tests read when they are done
}

// Generate implements pool.Engine.
func (r *Recorder) Generate(ctx context.Context, req engine.Request) (*engine.Stream, error) {
	r.mu.Lock()
	r.Last = req
	r.mu.Unlock()
	return r.Engine.Generate(ctx, req)
}

// Render implements pool.Engine.
func (r *Recorder) Render(ctx context.Context, by engine.Caller, c engine.Chat) (*engine.Rendered, error) {
	r.mu.Lock()
	r.Chats = append(r.Chats, c)
	r.mu.Unlock()
	rendered, err := r.Engine.Render(ctx, by, c)
	if err == nil && r.Rewrite != nil {
		r.Rewrite(rendered)
	}
	return rendered, err
}

// Record puts a recorder before a server's fake, which must not be in memory yet.
func Record(s *Server) *Recorder {
	r := &Recorder{}
	load := s.Model.Load
	s.Model.Load = func(ctx context.Context, shrink bool) (*pool.Instance, error) {
		in, err := load(ctx, shrink)
		if err == nil {
			r.Engine = in.Engine
			in.Engine = r
		}
		return in, err
	}
	return r
}

// Request asks without a body, and returns the status and the answer.
func Request(t testing.TB, hs *httptest.Server, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, hs.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// Scrape reads /metrics: the values by name and labels, and histograms' sums and counts.
func Scrape(t testing.TB, url string) map[string]float64 {
	t.Helper()
	res, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		t.Fatal(err)
	}

	values := map[string]float64{}
	for name, family := range families {
		for _, m := range family.Metric {
			key := name
			for _, label := range m.Label {
				key += " " + label.GetValue()
			}
			switch {
			case m.Counter != nil:
				values[key] = m.Counter.GetValue()
			case m.Gauge != nil:
				values[key] = m.Gauge.GetValue()
			case m.Histogram != nil:
				values[key+" count"] = float64(m.Histogram.GetSampleCount())
				values[key+" sum"] = m.Histogram.GetSampleSum()
			}
		}
	}

	return values
}

// PNG returns the file of a black image.
func PNG(width, height int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		panic(err) // it is written to memory
	}
	return b.Bytes()
}
