package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"serve/egress"
)

// Kinds of failure, for errors.Is.
var (
	ErrOffline   = egress.ErrOffline
	ErrNotFound  = errors.New("not found on the Hub")
	ErrAccess    = errors.New("access refused by the Hub")
	ErrIntegrity = errors.New("the data is not what was expected")
	ErrDisk      = errors.New("not enough disk space")
	ErrNetwork   = errors.New("the Hub cannot be reached or does not answer as it should")
)

// Error is a failure with its kind and a hint.
type Error struct {
	Kind error // one of the Err values; the cause of failures that have nothing to do with the Hub, or nil
	Text string
	Todo string // a hint, or ""
	// wait is how long to wait before retrying: negative for never, 0 for a time that
	// depends on the number of tries.
	wait time.Duration
	// stale is set if a signed URL may have expired.
	stale bool
	// away is set if no connection could be made.
	away bool
	// tainted is set if the data that arrived in this call cannot be trusted.
	tainted bool
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the kind, for errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

// Hint says what to do about the error.
func (e *Error) Hint() string { return e.Todo }

// never is the wait of an error that a retry cannot fix.
const never = -1

func permanent(kind error, todo, format string, args ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...), Todo: todo, wait: never}
}

// passing returns a network error that may be gone at the next try.
func passing(format string, args ...any) *Error {
	return &Error{Kind: ErrNetwork, Text: fmt.Sprintf(format, args...), Todo: "try again; what was downloaded is kept"}
}

// transportError describes why a host could not be reached.
func transportError(host string, err error) error {
	if errors.Is(err, ErrOffline) {
		return &Error{
			Kind: ErrOffline,
			Text: "offline mode: not connecting to " + host,
			Todo: "run it once without --offline, or import a bundle",
			wait: never,
		}
	}

	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// The text of a url.Error contains the URL, whose query may be a signature.
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}

	e := passing("cannot reach %s: %v", host, Cause(err))
	e.Todo = "check the network, HTTPS_PROXY and HF_ENDPOINT; what was downloaded is kept"
	var op *net.OpError
	e.away = errors.As(err, &op) && op.Op == "dial"
	if text := err.Error(); strings.Contains(text, "x509:") || strings.Contains(text, "certificate") {
		e.Todo = "if a proxy intercepts TLS, trust its certificate with --ca-file FILE"
		e.wait = never
	}

	return e
}

// Cause returns the reason for a failure in the network, without the call and the addresses that package net puts
// before it.
func Cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "proxyconnect" {
		return fmt.Errorf("the proxy cannot be reached: %w", Cause(op.Err))
	}

	var errno syscall.Errno
	var lookup *net.DNSError
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.As(err, &lookup):
		return errors.New(lookup.Err)
	case op != nil:
		return op.Err
	}
	return err
}

// statusError turns a response without success into an error with a hint. what is
// the repository or file that was requested.
func (c *Client) statusError(res *http.Response, what, repo string) *Error {
	body, _ := io.ReadAll(io.LimitReader(res.Body, 8<<10))
	said := c.said(res, body)
	host := res.Request.URL.Hostname()
	page := c.endpoint.String() + "/" + repo
	code := res.Header.Get("X-Error-Code")
	denied := res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden
	switch status := res.StatusCode; {
	case !c.isEndpoint(res.Request.URL) && (denied || status == http.StatusGone):
		// Most likely, a signed URL has expired: the Hub will give another one.
		return &Error{
			Kind:  ErrAccess,
			Text:  fmt.Sprintf("%s: %s refuses the address from the Hub (%s)", what, host, said),
			Todo:  "pull again",
			stale: true,
		}
	case isHTML(res) && status < 500 && code == "":
		return htmlError(host)
	case status == http.StatusUnauthorized && strings.Contains(said, "Invalid credentials"):
		const todo = "renew the token in HF_TOKEN or in the token file"
		return permanent(ErrAccess, todo, "%s: the Hub does not accept the token (%s)", what, said)
	case code == "GatedRepo" || denied && gated.MatchString(said):
		return gatedError(what, page, said)
	case strings.Contains(said, "is disabled"):
		return permanent(ErrAccess, "choose another repository", "%s: the Hub has disabled this repository (%s)", what, said)
	case status == http.StatusUnauthorized:
		const todo = "check the name; if it is private or gated, set HF_TOKEN"
		return permanent(ErrNotFound, todo, "%s: not found, or it needs a token (%s)", what, said)
	case status == http.StatusForbidden:
		const todo = "a fine-grained token needs permission to read this repository"
		return permanent(ErrAccess, todo, "%s: %s refuses access (%s)", what, host, said)
	case status == http.StatusNotFound:
		return notFound(what, code, page)
	case status == http.StatusRequestedRangeNotSatisfiable:
		return permanent(
			ErrIntegrity, "the file was replaced during the download, or a mirror is out of date: pull again",
			"%s: %s has fewer bytes than the Hub's listing says", what, host,
		)
	case status == http.StatusTooManyRequests:
		return &Error{
			Kind: ErrNetwork,
			Text: fmt.Sprintf("%s: too many requests to %s (%s)", what, host, said),
			Todo: "wait, or set HF_TOKEN: accounts have higher limits",
			wait: retryAfter(res.Header, time.Now()),
		}
	case status == http.StatusRequestTimeout || status >= 500:
		e := passing("%s: %s responded %s (%s)", what, host, res.Status, said)
		e.wait = retryAfter(res.Header, time.Now())
		return e
	}

	return permanent(
		ErrNetwork, "check that HF_ENDPOINT is a Hub or a mirror of one",
		"%s: %s responded %s (%s)", what, host, res.Status, said,
	)
}

var gated = regexp.MustCompile(`(?i)gated|is restricted|authorized list|awaiting a review`)

func gatedError(what, page, said string) *Error {
	todo := "accept its terms at " + page + " and set HF_TOKEN to a token of that account"
	if strings.Contains(said, "awaiting a review") {
		todo = "its authors must grant your request first; see " + page
	}
	return permanent(ErrAccess, todo, "%s is gated: %s", what, said)
}

func notFound(what, code, page string) *Error {
	switch code {
	case "RevisionNotFound":
		return permanent(ErrNotFound, "its branches and tags: "+page+"/tree/main", "%s: there is no such revision", what)
	case "EntryNotFound":
		return permanent(ErrNotFound, "its files: "+page+"/tree/main", "%s: there is no such file", what)
	}
	return permanent(
		ErrNotFound, "check the spelling at "+page+"; if it is private, set HF_TOKEN", "%s: not found on the Hub", what,
	)
}

func htmlError(host string) *Error {
	return permanent(
		ErrNetwork,
		"a proxy or a network login page is in the way: open https://"+host+" in a browser, or set HTTPS_PROXY",
		"%s responded with a web page instead of data",
		host,
	)
}

func isHTML(res *http.Response) bool {
	return strings.HasPrefix(res.Header.Get("Content-Type"), "text/html")
}

// said returns the Hub's own reason, with the ID of the request.
func (c *Client) said(res *http.Response, body []byte) string {
	var b struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &b)
	text := b.Error
	if text == "" {
		text = res.Header.Get("X-Error-Message")
	}
	if text == "" {
		text = "HTTP " + res.Status
	}
	text = oneLine(text, 300)
	if id := res.Header.Get("X-Request-Id"); id != "" {
		text += ", request " + oneLine(id, 80)
	}
	return text
}

// oneLine makes text from another host safe to print.
func oneLine(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

var rateLimitReset = regexp.MustCompile(`\bt=(\d+)`)

// retryAfter returns how long a response asks to wait, or 0.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n >= 0 {
		return time.Duration(min(n, 1<<20)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(at.Sub(now), time.Second)
	}
	if m := rateLimitReset.FindStringSubmatch(h.Get("RateLimit")); m != nil {
		n, err := strconv.Atoi(m[1])
		if err == nil {
			return time.Duration(min(n, 1<<20)+1) * time.Second
		}
	}
	return 0
}

// DiskError wraps a failure to write path, and recognizes a full disk. An Error is
// returned unchanged.
func DiskError(path string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return &Error{Kind: ErrDisk, Text: fmt.Sprintf("write %s: %v", path, err),
			Todo: "free up space, or set HF_HUB_CACHE to another disk, and pull again: what was downloaded is kept", wait: never}
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// Waits between tries.
const (
	tries    = 6 // without a byte in between
	longWait = 5 * time.Minute
)

type sleepFunc func(context.Context, time.Duration) error

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retry waits before try number n, counted from 1, or returns an error if there
// should be no further try.
func (c *Client) retry(ctx context.Context, n int, err error) error {
	var e *Error
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !errors.As(err, &e) || e.wait == never {
		return err
	}
	if n >= tries {
		return &Error{Kind: e.Kind, Text: fmt.Sprintf("%s, %d times", e.Text, n), Todo: e.Todo, wait: never}
	}

	wait := e.wait
	if wait > longWait {
		return &Error{
			Kind: e.Kind,
			Text: fmt.Sprintf("%s and asks to wait for %s", e.Text, wait),
			Todo: "pull again then; what was downloaded is kept",
			wait: never,
		}
	}

	if wait == 0 && !e.stale {
		wait = time.Second << min(n-1, 5)
	}
	if wait > 0 {
		c.o.Progress.Note(fmt.Sprintf("%s; trying again in %s", e.Text, wait))
	}

	return c.sleep(ctx, wait)
}
