// Package hub is a client of the Hugging Face Hub: it lists repositories and
// downloads and verifies their files. It uses Hugging Face's own cache layout, so
// that tools find each other's downloads. It knows about URLs, hashes and files,
// but not about models.
package hub

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"serve/egress"
)

// DefaultEndpoint is the URL of the Hub unless HF_ENDPOINT is set.
const DefaultEndpoint = "https://huggingface.co"

// Options configure a Client. FromEnvironment returns the options that Hugging
// Face's own tools would take from the environment.
type Options struct {
	Endpoint    string        // the Hub or a mirror of it, DefaultEndpoint
	Token       string        // sent to Endpoint and to no other host
	Cache       string        // folder of the cache; without one nothing is found and nothing can be downloaded
	Offline     bool          // open no connections
	CAFile      string        // PEM file of additional certificates to trust
	UserAgent   string        // "serve"
	Connections int           // connections per file, 4 by default
	Idle        time.Duration // time without data after which a connection is closed, 30 s by default
	Progress    Progress      // nil for none
	Net         *egress.Net   // opens the connections; nil for one without an observer
}

// Progress shows the progress of a download or a check of a file. Its methods are
// called from several goroutines, but for one file at a time.
type Progress interface {
	// Start begins a file of size bytes, have of which are already downloaded.
	Start(file string, size, have int64)
	// Add reports n more bytes.
	Add(n int64)
	// Note reports in a few words why there is no progress: a retry, another process.
	Note(text string)
	// Done ends the file, whether it succeeded or not.
	Done()
}

// FileProgress is a Progress that wants to know which file a download begins: StartFile is called in
// place of Start.
type FileProgress interface {
	Progress
	StartFile(f File, have int64)
}

type silent struct{}

func (silent) Start(string, int64, int64) {}
func (silent) Add(int64)                  {}
func (silent) Note(string)                {}
func (silent) Done()                      {}

// FromEnvironment returns the options that Hugging Face's own tools would take
// from an environment; lookup returns "" for variables that are not set. The error
// is one of reading the token file.
func FromEnvironment(lookup func(string) string) (Options, error) {
	o := Options{Endpoint: strings.TrimRight(lookup("HF_ENDPOINT"), "/")}
	o.Offline = truth(lookup("HF_HUB_OFFLINE")) || truth(lookup("TRANSFORMERS_OFFLINE"))
	home := lookup("HF_HOME")
	if home == "" {
		home = lookup("XDG_CACHE_HOME")
		if home == "" && lookup("HOME") != "" {
			home = filepath.Join(lookup("HOME"), ".cache")
		}
		if home != "" {
			home = filepath.Join(home, "huggingface")
		}
	}

	for _, dir := range []string{lookup("HF_HUB_CACHE"), lookup("HUGGINGFACE_HUB_CACHE"), home} {
		if dir == "" {
			continue
		}
		o.Cache = ExpandHome(dir, lookup)
		if dir == home {
			o.Cache = filepath.Join(o.Cache, "hub")
		}
		break
	}

	var err error
	o.Token, err = token(lookup, ExpandHome(home, lookup))
	return o, err
}

// token finds the token as Hugging Face's tools do.
func token(lookup func(string) string, home string) (string, error) {
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if t := strings.TrimSpace(lookup(name)); t != "" {
			return t, nil
		}
	}

	if truth(lookup("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		return "", nil
	}

	path := lookup("HF_TOKEN_PATH")
	if path == "" {
		if home == "" {
			return "", nil
		}
		path = filepath.Join(home, "token")
	}

	b, err := os.ReadFile(ExpandHome(path, lookup))
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the Hub's token: %w", err)
	}

	return strings.TrimSpace(string(b)), nil
}

// ExpandHome replaces a leading ~/, which a shell did not expand, by HOME if that is set.
func ExpandHome(path string, lookup func(string) string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok && lookup("HOME") != "" {
		return filepath.Join(lookup("HOME"), rest)
	}
	return path
}

// truth parses a boolean variable as Hugging Face's tools do.
func truth(value string) bool {
	return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(value))
}

// Client downloads from a Hub to a cache. It may be used by several goroutines,
// though a Progress shows one file at a time.
type Client struct {
	Cache
	o        Options
	endpoint *url.URL
	http     *http.Client
	way      *egress.Way // of http, which redirects add hosts to
	block    int64       // size of a download's blocks, in bytes
	sleep    sleepFunc
}

var printable = regexp.MustCompile(`^[\x21-\x7e]*$`)

// New returns a client. It opens no connections.
func New(o Options) (*Client, error) {
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	if o.UserAgent == "" {
		o.UserAgent = "serve"
	}
	if o.Connections == 0 {
		o.Connections = 4
	}
	if o.Idle == 0 {
		o.Idle = 30 * time.Second
	}
	if o.Progress == nil {
		o.Progress = silent{}
	}
	if o.Cache == "" {
		o.Cache = noCache
	}
	if !printable.MatchString(o.Token) {
		return nil, fmt.Errorf("the Hub's token contains a space or a control character")
	}

	endpoint, err := url.Parse(strings.TrimRight(o.Endpoint, "/"))
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http" ||
		endpoint.User != nil {
		return nil, fmt.Errorf("HF_ENDPOINT %q is not a URL such as https://host", o.Endpoint)
	}

	namedBy := "HF_ENDPOINT"
	if o.Endpoint == DefaultEndpoint {
		namedBy = "the Hugging Face Hub"
	}
	way := egress.NewWay("hub", "lists and downloads models").Allow(namedBy, o.Endpoint)
	transport, err := Transport(o, way)
	if err != nil {
		return nil, err
	}

	return &Client{Cache: Cache{Dir: o.Cache}, o: o, endpoint: endpoint, block: blockBytes, sleep: sleep, way: way,
		http: &http.Client{
			Transport: transport,
			// get follows redirects itself, to control which host receives the token.
			CheckRedirect: egress.NoRedirect,
		}}, nil
}

// Progress returns the client's Progress, which is never nil.
func (c *Client) Progress() Progress { return c.o.Progress }

// With returns a client with another Progress. Both clients may be used at the same time.
func (c *Client) With(p Progress) *Client {
	other := *c
	other.o.Progress = p
	return &other
}

// Offline reports whether the client opens no connections.
func (c *Client) Offline() bool { return c.o.Offline }

// Transport returns a transport for a way, with these options. Offline, it opens no connections.
func Transport(o Options, way *egress.Way) (http.RoundTripper, error) {
	if o.Offline {
		return refusing{}, nil
	}

	t := o.Net.Transport(way)
	t.DisableCompression = true
	t.MaxIdleConnsPerHost = o.Connections
	t.ResponseHeaderTimeout = o.Idle
	// No HTTP/2: ranges of one file over one connection would share its window.
	t.ForceAttemptHTTP2 = false
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	t.ReadBufferSize = 256 << 10
	// Without it, the transport would offer HTTP/2, and hosts that have it would speak it.
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile == "" {
		return t, nil
	}

	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("--ca-file: cannot read the certificates in %s: %w", o.CAFile, Cause(err))
	}

	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s contains no PEM certificate", o.CAFile)
	}

	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// refusing is the transport of offline mode.
type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, ErrOffline }
