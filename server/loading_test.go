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

// TestLoadingModel requests a model that takes too long to load, one that cannot be loaded, and
// one that does not fit.
func TestLoadingModel(t *testing.T) {
	slow := func(ctx context.Context, _ bool) (*pool.Instance, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	damaged := func(context.Context, bool) (*pool.Instance, error) {
		return nil, errors.New("open /secret/path: damaged")
	}
	large := func(context.Context, bool) (*pool.Instance, error) {
		return nil, &pool.NoRoomError{
			Err:   errors.New("needs 9 GiB and has 8 GiB free"),
			Short: 1 << 30,
		}
	}
	serve := func(wait time.Duration, name string, load pool.LoadFunc) *httptest.Server {
		hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{
			Models:   []*pool.Model{{ID: name, Load: load}},
			LoadWait: wait,
		})
		return hs
	}
	ask := func(hs *httptest.Server, name string) (int, http.Header, string) {
		res, body := servertest.Post(t, hs, "/v1/completions", `{"model":"`+name+`","prompt":"p"}`)
		return res.StatusCode, res.Header, body
	}

	status, h, body := ask(serve(time.Millisecond, "slow", slow), "slow")
	if status != 503 || h.Get("Retry-After") == "" || !strings.Contains(body, `"code":"model_loading"`) {
		t.Errorf("%d %v %s", status, h, body)
	}
	status, h, body = ask(serve(time.Minute, "damaged", damaged), "damaged")
	if status != 500 || h.Get("X-Should-Retry") != "false" || strings.Contains(body, "secret") ||
		!strings.Contains(body, `"model_load_failed"`) {
		t.Errorf("%d %v %s", status, h, body)
	}
	status, _, body = ask(serve(time.Minute, "large", large), "large")
	if status != 400 || !strings.Contains(body, `"insufficient_memory"`) || !strings.Contains(body, "9 GiB") {
		t.Errorf("%d %s", status, body)
	}
}
