package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"serve/egress"
	"serve/fault"
	"serve/prompt"
)

// fetcher returns a fetcher for hosts.
func fetcher(t *testing.T, o Options) *imageFetcher {
	t.Helper()
	o.MaxBody = 100
	f, err := newImageFetcher(&o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fetched fetches a URL, and returns the text or the error's.
func fetched(t *testing.T, f *imageFetcher, url string) string {
	t.Helper()
	data, e := f.fetch(t.Context(), &prompt.Image{Field: "f", URL: url}, 0)
	if e != nil {
		return e.Message
	}
	return string(data)
}

// TestFetchWithoutClient asks nobody for an image when its request has been cancelled.
func TestFetchWithoutClient(t *testing.T) {
	host := httptest.NewServer(nil)
	defer host.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := fetcher(t, Options{ImageHosts: []string{host.URL}})
	_, e := f.fetch(ctx, &prompt.Image{Field: "f", URL: host.URL + "/cat.png"}, 0)
	if e == nil || e.Kind != fault.ImageUnreachable {
		t.Errorf("got %v", e)
	}
}

// TestImageHosts allows what the flag names: https and its port, unless it says something else.
func TestImageHosts(t *testing.T) {
	f := fetcher(t, Options{ImageHosts: []string{
		"images.example", "cdn.example:8443", "http://old.example", "10.0.0.5", "2001:db8::7",
	}})
	for address, allowed := range map[string]bool{
		"https://images.example/a.png":      true,
		"https://IMAGES.example:443/a.png":  true,
		"https://cdn.example:8443/a.png":    true,
		"http://old.example/a.png":          true,
		"http://old.example:80/a.png":       true,
		"https://10.0.0.5/a.png":            true,
		"https://[2001:db8::7]/a.png":       true,
		"http://images.example/a.png":       false,
		"https://images.example:22/a.png":   false,
		"https://cdn.example/a.png":         false,
		"https://old.example/a.png":         false,
		"https://u:p@images.example/a.png":  false,
		"https://images.example@evil.local": false,
		"https://images.example.evil.local": false,
		"ftp://images.example/a.png":        false,
		"file:///etc/passwd":                false,
		"https:///a.png":                    false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.allows(u); (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
	}

	for _, given := range []string{"", "ftp://images.example", "user@images.example", "images.example/path", "a b"} {
		if _, err := newImageFetcher(&Options{ImageHosts: []string{given}}); err == nil {
			t.Errorf("--image-host %q is accepted", given)
		}
	}
}

// TestPrivateImageHosts refuses the address that a name leads to when the connection is opened, unless the
// operator has named the address itself, or has said that it may be private.
func TestPrivateImageHosts(t *testing.T) {
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("cat")) }))
	defer host.Close()
	address, port, _ := strings.Cut(strings.TrimPrefix(host.URL, "http://"), ":")
	for _, name := range []string{address, "localhost"} {
		url := "http://" + name + ":" + port
		if got := fetched(t, fetcher(t, Options{ImageHosts: []string{url}}), url+"/cat.png"); got != "cat" {
			t.Errorf("%s: %s", name, got)
		}

		for private, want := range map[bool]string{true: "cat", false: "not public"} {
			f := fetcher(t, Options{ImageHosts: []string{url}})
			// Any other name that leads to this machine.
			f.client.Transport = newImageTransport(new(egress.Net).Transport(ImageWay([]string{url})),
				[]imageHost{{"http", name, port, private}})
			if got := fetched(t, f, url+"/cat.png"); !strings.Contains(got, want) {
				t.Errorf("%s, private %v: %s", name, private, got)
			}
		}
	}

	h, err := parseImageHost("images.example", true)
	if err != nil || !h.private {
		t.Errorf("--image-host-private: %+v, %v", h, err)
	}
}

// TestImageProxy goes through a proxy, which may have a private address, and resolves the names.
func TestImageProxy(t *testing.T) {
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		w.Write([]byte("cat"))
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}

	f := fetcher(t, Options{
		ImageHosts:     []string{"http://images.example"},
		ImageTransport: &http.Transport{Proxy: http.ProxyURL(at)},
	})
	const address = "http://images.example/cat.png"
	if got := fetched(t, f, address); got != "cat" || asked != address {
		t.Errorf("got %q, and the proxy was asked for %q", got, asked)
	}
}

func TestPublicAddresses(t *testing.T) {
	for address, public := range map[string]bool{
		"93.184.215.14":       true,
		"2606:2800:21f::1":    true,
		"127.0.0.1":           false,
		"127.9.9.9":           false,
		"::1":                 false,
		"::ffff:127.0.0.1":    false,
		"::ffff:10.0.0.1":     false,
		"::10.0.0.1":          false,
		"10.1.2.3":            false,
		"172.31.0.1":          false,
		"192.168.1.1":         false,
		"169.254.169.254":     false, // where clouds keep credentials
		"fe80::1%eth0":        false,
		"fd00:ec2::254":       false,
		"0.0.0.0":             false,
		"0.1.2.3":             false,
		"::":                  false,
		"100.100.100.200":     false,
		"224.0.0.1":           false,
		"255.255.255.255":     false,
		"64:ff9b::7f00:1":     false,
		"2002:7f00:1::":       false,
		"2001:0:7f00:1::ffff": false,
		"ff02::1":             false,
	} {
		if got := isPublic(netip.MustParseAddr(address)); got != public {
			t.Errorf("%s: %v", address, got)
		}
	}
}
