package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"serve/engine/enginetest"
)

// TestPoolMissingDevice tries again, and slowly, to load a model whose device is missing,
// whether it was missing from the start or the engine has lost it.
func TestPoolMissingDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 6, 6)
		p := newTestPool(0)
		defer p.close()
		gone := &DeviceError{Err: errors.New("CUDA0 is gone")}
		fail := func(err error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.fail = err
		}

		fail(gone)
		var missing *DeviceError
		if _, err := p.acquire(t.Context(), a, time.Minute); !errors.As(err, &missing) || missing != gone {
			t.Errorf("got %v", err)
		}
		if why, ok := p.missingDevice(a); !ok || why != gone {
			t.Errorf("missing: %v, %t", why, ok)
		}
		time.Sleep(3 * deviceRetry)
		m.did(t)

		// With the device it is there again, though nobody asked.
		fail(nil)
		time.Sleep(deviceRetry)
		synctest.Wait()
		m.did(t, "+a 6")
		if why, ok := p.missingDevice(a); ok {
			t.Errorf("it is there, and missing: %v", why)
		}

		// An engine that ends because of it is not loaded by something else, either.
		p.mu.Lock()
		in := p.slots[a].instance
		in.Failed = func() error { return gone }
		p.mu.Unlock()
		fail(gone)
		in.Stop()
		synctest.Wait()
		if why, ok := p.missingDevice(a); !ok || why != gone {
			t.Errorf("missing: %v, %t", why, ok)
		}
		fail(nil)
		p.use(t, a) // a request need not wait for the next try
		time.Sleep(2 * deviceRetry)
		m.did(t, "-a", "+a 6")
	})
}

// TestMissingDevice asks over HTTP for a model whose device is missing.
func TestMissingDevice(t *testing.T) {
	hs, s := start(t, enginetest.Options{}, Options{})
	lost := &Model{ID: "lost", Load: func(context.Context, bool) (*Instance, error) {
		return nil, &DeviceError{Err: errors.New("CUDA0 is gone: error 304")}
	}}
	s.byName["lost"] = lost
	s.opts.Models = append(s.opts.Models, lost)
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get(hs.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}

	if status, body := get("/readyz"); status != 200 || strings.Contains(body, "reasons") {
		t.Errorf("before it was asked for: %d %s", status, body)
	}
	res, body := post(t, hs, "/v1/completions", `{"model":"lost","prompt":"p"}`)
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "30" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if !strings.Contains(body, `"code":"device_unavailable"`) || !strings.Contains(body, "CUDA0 is gone: error 304") {
		t.Errorf("%s", body)
	}
	status, body := get("/readyz")
	for _, want := range []string{`"lost":"device missing"`, `"reasons":{"lost":"CUDA0 is gone: error 304"}`} {
		if status != 503 || !strings.Contains(body, want) {
			t.Errorf("/readyz: %d, without %s: %s", status, want, body)
		}
	}
	if _, body := get("/status"); !strings.Contains(body, `"state":"device missing"`) {
		t.Errorf("/status: %s", body)
	}
}
