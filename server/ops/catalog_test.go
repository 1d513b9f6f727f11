package ops_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/ops"
	"serve/server/servertest"
	"serve/service"
)

// TestCatalog says to whom what can be downloaded.
func TestCatalog(t *testing.T) {
	known := service.Catalog{Memory: 8 << 30, Models: []service.CatalogModel{{Name: "small", Bytes: 7, Memory: 9}}}
	managed, _ := servertest.Start(t, enginetest.Options{}, server.Options{Library: &servertest.Library{Known: known}})
	alone, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	get := func(url string, headers ...string) (c ops.CatalogAnswer) {
		t.Helper()
		res := request(t, url+"/catalog", headers...)
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&c); err != nil || c.Models == nil {
			t.Fatalf("%+v: %v", c, err)
		}
		return c
	}

	if c := get(managed.URL); !c.Manage || c.Offline || c.Memory != 8<<30 || len(c.Models) != 1 || c.Models[0].Memory != 9 {
		t.Errorf("a program of this machine: %+v", c)
	}
	if c := get(managed.URL, "X-Forwarded-For", "203.0.113.7"); c.Manage || len(c.Models) != 1 {
		t.Errorf("behind a proxy: %+v", c)
	}
	if c := get(alone.URL); c.Manage || !c.Offline || len(c.Models) != 0 {
		t.Errorf("without a library: %+v", c)
	}
}

// request gets a URL with headers: names and values in turn. The caller closes the body.
func request(t *testing.T, url string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}
