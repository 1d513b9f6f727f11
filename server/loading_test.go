package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"serve/engine/enginetest"
	"serve/pool"
)

// TestLoadingModel asks over HTTP for a model that takes too long to load, for one
// that cannot be loaded, and for one that does not fit.
func TestLoadingModel(t *testing.T) {
	release := make(chan struct{})
	slow := &pool.Model{
		ID: "slow",
		Load: func(ctx context.Context, _ bool) (*pool.Instance, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, errors.New("open /secret/path: damaged")
		},
	}

	hasty, _ := start(t, enginetest.Options{}, Options{
		Models:   []*pool.Model{slow},
		LoadWait: time.Millisecond,
	})

	hs, _ := start(t, enginetest.Options{}, Options{
		Models:   []*pool.Model{slow},
		LoadWait: time.Minute,
	})

	ask := func(hs *httptest.Server) (int, http.Header, string) {
		res, body := post(t, hs, "/v1/completions", `{"model":"slow","prompt":"p"}`)
		return res.StatusCode, res.Header, body
	}

	if status, h, body := ask(hasty); status != 503 || h.Get("Retry-After") == "" || !strings.Contains(body, `"code":"model_loading"`) {
		t.Errorf("%d %v %s", status, h, body)
	}

	close(release)
	if status, h, body := ask(hs); status != 500 || h.Get("X-Should-Retry") != "false" || strings.Contains(body, "secret") || !strings.Contains(body, `"model_load_failed"`) {
		t.Errorf("%d %v %s", status, h, body)
	}

	slow.Load = func(context.Context, bool) (*pool.Instance, error) {
		return nil, &pool.NoRoomError{
			Err:   errors.New("needs 9 GiB and has 8 GiB free"),
			Short: 1 << 30,
		}
	}

	if status, _, body := ask(hs); status != 400 || !strings.Contains(body, `"insufficient_memory"`) || !strings.Contains(body, "9 GiB") {
		t.Errorf("%d %s", status, body)
	}
}

// TestMissingDevice asks over HTTP for a model whose device is missing.
func TestMissingDevice(t *testing.T) {
	lost := &pool.Model{
		ID: "lost",
		Load: func(context.Context, bool) (*pool.Instance, error) {
			return nil, &pool.DeviceError{Err: errors.New("CUDA0 is gone: error 304")}
		},
	}

	hs, _ := start(t, enginetest.Options{}, Options{Models: []*pool.Model{lost}})
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
