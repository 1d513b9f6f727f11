package ops_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"serve/engine/enginetest"
	"serve/pool"
	"serve/server"
	"serve/server/servertest"
)

// TestMissingDevice asks over HTTP for a model whose device is missing.
func TestMissingDevice(t *testing.T) {
	lost := &pool.Model{
		ID: "lost",
		Load: func(context.Context, bool) (*pool.Instance, error) {
			return nil, &pool.UnavailableError{Err: errors.New("CUDA0 is gone: error 304")}
		},
	}

	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Models: []*pool.Model{lost}})
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

	res, body := servertest.Post(t, hs, "/v1/completions", `{"model":"lost","prompt":"p"}`)
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
