package server

import (
	"context"
	"net/http/httptest"
	"net/url"
	"testing"

	"serve/fault"
	"serve/prompt"
)

// TestFetchWithoutClient asks nobody for an image when its request has been cancelled.
func TestFetchWithoutClient(t *testing.T) {
	host := httptest.NewServer(nil)
	defer host.Close()
	u, err := url.Parse(host.URL)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := newImageFetcher(&Options{ImageHosts: []string{u.Hostname()}, MaxBody: 100})
	_, e := f.fetch(ctx, &prompt.Image{Field: "f", URL: host.URL + "/cat.png"}, 0)
	if e == nil || e.Kind != fault.ImageUnreachable {
		t.Errorf("got %v", e)
	}
}
