package server_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"serve/engine/enginetest"
	"serve/pool"
	"serve/server"
	"serve/server/servertest"
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

	hasty, _ := servertest.Start(t, enginetest.Options{}, server.Options{
		Models:   []*pool.Model{slow},
		LoadWait: time.Millisecond,
	})

	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{
		Models:   []*pool.Model{slow},
		LoadWait: time.Minute,
	})

	ask := func(hs *httptest.Server) (int, http.Header, string) {
		res, body := servertest.Post(t, hs, "/v1/completions", `{"model":"slow","prompt":"p"}`)
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
