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

	"serve/egress"
)

// ParseURL parses the URL of a server, with or without /v1.
func ParseURL(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(strings.TrimSuffix(address, "/"), "/v1"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not an address such as http://127.0.0.1:8080", address)
	}
	return u, nil
}

// IsLocal reports whether a URL refers to this machine.
func IsLocal(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

const (
	maxStatus  = 4 << 20         // maximum size of a status, in bytes
	statusTime = 5 * time.Second // how long a server may take to respond
)

// Ask fetches a server's status with a key, by a transport to it, and decodes it from JSON. The error is an ErrKey if
// the server wants another one.
func Ask(ctx context.Context, transport *http.Transport, s Server, key Key, status any) error {
	u, err := ParseURL(s.URL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("status").String(), nil)
	if err != nil {
		return err
	}
	if key.Secret != "" {
		req.Header.Set("Authorization", "Bearer "+key.Secret)
	}

	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: egress.NoRedirect,
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrKey
	default:
		return fmt.Errorf("the server responded %s", res.Status)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxStatus)).Decode(status); err != nil {
		return fmt.Errorf("not a serve server: %w", err)
	}
	return nil
}
