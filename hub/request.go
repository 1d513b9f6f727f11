package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// maxRedirects is more than a Hub and its CDN need.
const maxRedirects = 5

// get sends a GET request and follows redirects. The token is sent only to the
// endpoint: the same scheme, host and port. The response's Request.URL is the last
// URL.
func (c *Client) get(ctx context.Context, address string, header http.Header) (*http.Response, error) {
	for range maxRedirects {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", c.endpoint.Host, errors.Unwrap(err))
		}

		req.Header = header.Clone()
		req.Header.Set("User-Agent", c.o.UserAgent)
		req.Header.Set("Accept-Encoding", "identity")
		if c.o.Token != "" && c.isEndpoint(req.URL) {
			req.Header.Set("Authorization", "Bearer "+c.o.Token)
		}

		res, err := c.http.Do(req)
		if err != nil {
			return nil, transportError(req.URL.Host, err)
		}

		switch res.StatusCode {
		case http.StatusMovedPermanently,
			http.StatusFound,
			http.StatusSeeOther,
			http.StatusTemporaryRedirect,
			http.StatusPermanentRedirect:
		default:
			return res, nil
		}

		res.Body.Close()
		to, err := res.Location()
		if err != nil {
			return nil, permanent(ErrNetwork, "", "%s redirects without a location", req.URL.Host)
		}
		if err := c.allowRedirect(req.URL, to); err != nil {
			return nil, err
		}

		c.way.Allow("a redirect of "+req.URL.Host, to.Scheme+"://"+to.Host)
		address = to.String()
	}

	return nil, permanent(ErrNetwork, "", "%s redirects more than %d times", c.endpoint.Host, maxRedirects)
}

// isEndpoint reports whether a URL has the endpoint's scheme, host and port.
func (c *Client) isEndpoint(u *url.URL) bool {
	return u.Scheme == c.endpoint.Scheme && strings.EqualFold(u.Hostname(), c.endpoint.Hostname()) &&
		port(u) == port(c.endpoint)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"https": "443", "http": "80"}[u.Scheme]
}

// allowRedirect refuses redirects from https to http, and from a public Hub into a
// private network.
func (c *Client) allowRedirect(from, to *url.URL) error {
	if to.Scheme != "https" && (to.Scheme != "http" || from.Scheme != "http") {
		return permanent(ErrNetwork, "", "%s redirects from https to %s", from.Host, to.Scheme)
	}
	if isPrivate(to.Hostname()) && !isPrivate(c.endpoint.Hostname()) {
		return permanent(ErrNetwork, "", "%s redirects to the private address %s", from.Host, to.Host)
	}
	return nil
}

// isPrivate reports whether a host is this machine or one in a private network, as
// far as its name shows.
func isPrivate(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		// A name without a dot exists only in a private network.
		return !strings.Contains(host, ".")
	}
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
}
