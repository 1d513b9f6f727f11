package server

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"serve/fault"
)

// guardHost rejects requests for host names that are not the server's. The pages of a site that uses DNS
// rebinding are same-origin for the browser, but it names their own host. No site can have an address as its
// name, nor localhost.
func (s *Server) guardHost(c *gin.Context) {
	if exchangeOf(c).endpoint.AnyHost {
		return
	}
	host := hostName(c.Request.Host)
	if isAddress(host) || isLoopback(host) || s.isNamed(host) {
		return
	}
	s.fail(c, fault.New(fault.UnknownHost, "",
		"The server does not accept requests for the host %q; --allow-host %s allows them.", host, shellName(host)))
	c.Abort()
}

// isNamed reports whether a host is one of the server's names.
func (s *Server) isNamed(host string) bool {
	return slices.ContainsFunc(s.opts.Hosts, func(allowed string) bool {
		allowed = strings.ToLower(allowed)
		suffix, star := strings.CutPrefix(allowed, "*")
		return host == allowed || star && strings.HasSuffix(host, suffix) && (suffix == "" || suffix[0] == '.')
	})
}

// guardOrigin rejects requests from web pages of other origins, unless they are allowed.
func (s *Server) guardOrigin(c *gin.Context) {
	r := c.Request
	origin := r.Header.Get("Origin")
	switch {
	case origin == "" && mayLackOrigin(r):
		return
	case origin != "" && s.allows(origin):
		s.admitOrigin(c, origin)
		return
	case origin != "" && isOwn(r, origin) && !fromOtherSite(r):
		return
	}

	message := "Web pages from %s may not use this server; --allow-origin allows them."
	if u, err := url.Parse(origin); err == nil && r.TLS == nil && u.Scheme == "https" && u.Host == r.Host {
		message = "The page is from %s, but the request came without TLS; if a proxy has ended it, --trust-proxy names it."
	}
	if origin == "" {
		origin = "other sites"
	}
	s.fail(c, fault.New(fault.OriginNotAllowed, "", message, origin))
	c.Abort()
}

// admitOrigin sets the headers by which a browser lets pages of an origin use the server.
func (s *Server) admitOrigin(c *gin.Context, origin string) {
	h := c.Writer.Header()
	asked := c.Request.Header.Get("Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "authorization, content-type, "+asked)
	h.Set("Access-Control-Expose-Headers", s.exposed())
	h.Add("Vary", "Origin")
}

// isOwn reports whether an origin is the one that the request is for: its scheme, host and port. A trusted proxy that
// adds TLS says so in X-Forwarded-Proto.
func isOwn(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	scheme := "http"
	if r.TLS != nil || r.Header.Get(forwardedProto) == "https" {
		scheme = "https"
	}
	return u.Scheme == scheme && hostPort(u.Host, scheme) == hostPort(r.Host, scheme)
}

// hostPort returns a host in lower case without its scheme's own port.
func hostPort(host, scheme string) string {
	own := map[string]string{"http": ":80", "https": ":443"}[scheme]
	return strings.ToLower(strings.TrimSuffix(host, own))
}

// fetchSite is the header by which browsers tell how the page that sent a request is related to the server.
const fetchSite = "Sec-Fetch-Site"

// fromOtherSite reports whether the browser says that a page of another origin sent the request.
func fromOtherSite(r *http.Request) bool {
	site := r.Header.Get(fetchSite)
	return site == "cross-site" || site == "same-site"
}

// mayLackOrigin reports whether a request without an origin may come: that of a program, of the server's own
// page, or a link to the page that somebody follows. Pages of other sites send none with images, scripts and
// frames, which they could not read but count, time and repeat.
func mayLackOrigin(r *http.Request) bool {
	if !fromOtherSite(r) {
		return true
	}
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// programs are the schemes of the origins that programs with a browser inside have, such as editors. No web
// page can have one.
var programs = []string{"app", "file", "tauri", "vscode-webview", "vscode-file"}

// checkOrigins returns an error if an allowed origin has a form that no request can match.
func checkOrigins(o *Options) error {
	for _, origin := range o.AllowedOrigins {
		u, err := url.Parse(origin)
		plain := err == nil && u.Scheme != "" && u.Host != "" && u.Scheme+"://"+u.Host == origin
		if !plain && !slices.Contains([]string{"*", "null"}, origin) {
			return fmt.Errorf("--allow-origin %q must be an origin such as http://localhost:5173", origin)
		}
	}
	return nil
}

// allows reports whether pages of an origin may use the server. An allowed origin may end in a star:
// chrome-extension://* is every extension.
func (s *Server) allows(origin string) bool {
	scheme, _, _ := strings.Cut(origin, "://")
	if slices.Contains(programs, scheme) {
		return true
	}
	return slices.ContainsFunc(s.opts.AllowedOrigins, func(allowed string) bool {
		prefix, star := strings.CutSuffix(allowed, "*")
		return origin == allowed ||
			star && strings.HasPrefix(origin, prefix) && (prefix == "" || strings.HasSuffix(prefix, "://"))
	})
}

// port matches the port at the end of a host.
var port = regexp.MustCompile(`:[0-9]*$`)

// hostName returns the name of a host without its port, in lower case.
func hostName(host string) string {
	if strings.HasPrefix(host, "[") || strings.Count(host, ":") == 1 {
		host = port.ReplaceAllString(host, "")
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// isAddress reports whether a host is an IP address. Other spellings of addresses, such as a decimal number,
// are none.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// isLoopback reports whether a host is this machine for the client that names it. Programs of old protocols
// name none; browsers always do.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		err == nil && ip.Unmap().IsLoopback()
}

// shellName returns a host name to paste into a shell, or a placeholder for what is none.
func shellName(host string) string {
	odd := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789.-_", r) }
	if len(host) > 253 || strings.ContainsFunc(host, odd) {
		return "NAME"
	}
	return host
}
