package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ParseURL reads the address of a server, with /v1 or without.
func ParseURL(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(strings.TrimSuffix(address, "/"), "/v1"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not an address such as http://127.0.0.1:8080", address)
	}
	return u, nil
}

// IsLocal reports whether an address is this machine's own.
func IsLocal(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

const (
	maxStatus  = 4 << 20         // bytes that are read of a status
	statusTime = 5 * time.Second // that a server may take to answer
)

// Ask asks a server for its status, which is decoded from JSON.
func Ask(ctx context.Context, u *url.URL, status any) error {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("status").String(), nil)
	if err != nil {
		return err
	}

	// A proxy has no business between two programs of one machine.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", res.Status)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxStatus)).Decode(status); err != nil {
		return fmt.Errorf("not a serve server: %w", err)
	}
	return nil
}
