package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"serve/hub/hubtest"
)

// content is n bytes that are not alike anywhere.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// notes records what a Progress is told.
type notes struct {
	mu    sync.Mutex
	lines []string
	bytes int64
	have  int64
	open  int

	at      int64 // when so many bytes are here,
	reached func()
}

func (n *notes) Start(_ string, _, have int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open++
	n.have, n.bytes = have, have
}
func (n *notes) Add(k int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bytes += k; n.at > 0 && n.bytes >= n.at {
		n.reached()
	}
}
func (n *notes) Note(text string) { n.mu.Lock(); n.lines = append(n.lines, text); n.mu.Unlock() }
func (n *notes) Done()            { n.mu.Lock(); n.open--; n.mu.Unlock() }

// world is a Hub with one repository and a client of it that does not wait.
type world struct {
	*hubtest.Hub
	client *Client
	notes  *notes
	waits  []time.Duration
	data   []byte
}

const repo = "org/Model-GGUF"

func newWorld(t *testing.T, size int, change func(*Options)) *world {
	t.Helper()
	w := &world{Hub: hubtest.New(), notes: &notes{}, data: content(size)}
	t.Cleanup(func() {
		w.Close()
		for _, r := range w.Requests() {
			if r.Host == "cdn" && r.Authorization != "" {
				t.Errorf("the CDN was sent the token: %+v", r)
			}
		}
	})

	w.Add(
		repo,
		hubtest.Repo{
			Files:   map[string][]byte{"m-Q4_K_M.gguf": w.data, "LICENSE": []byte("do what you like\n")},
			License: "mit",
		},
	)

	o := Options{Endpoint: w.URL, Cache: t.TempDir(), Progress: w.notes, Token: hubtest.Token}
	if change != nil {
		change(&o)
	}

	w.client = w.newClient(t, o)
	return w
}

func (w *world) newClient(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	c.block = blockSize
	c.sleep = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		w.waits = append(w.waits, d)
		mu.Unlock()
		return ctx.Err()
	}
	return c
}

// pull lists and downloads everything.
func (w *world) pull(ctx context.Context) (*Listing, error) {
	l, err := w.client.List(ctx, repo, "main")
	if err != nil {
		return nil, err
	}
	for _, f := range l.Files {
		if _, err := w.client.Download(ctx, l, f); err != nil {
			return l, err
		}
	}
	return l, w.client.Link(l, l.Files)
}

// files returns everything below the cache that has a name of a content.
func (w *world) named(t *testing.T) (list []string) {
	t.Helper()
	filepath.WalkDir(w.client.Dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() &&
			(strings.Contains(name, "/snapshots/") || strings.Contains(name, "/blobs/") && len(filepath.Base(name)) >= 40 &&
				!strings.Contains(filepath.Base(name), ".")) {
			list = append(list, filepath.Base(name))
		}
		return nil
	})
	return list
}

func (w *world) check(t *testing.T, l *Listing) {
	t.Helper()
	files, err := w.client.Files(repo, l.Commit)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	got, err := os.ReadFile(files[1].Name)
	if err != nil || !bytes.Equal(got, w.data) {
		t.Fatalf("%d bytes, %v: not what the Hub has", len(got), err)
	}
	entries, _ := os.ReadDir(filepath.Dir(w.client.Blob(repo, "x")))
	if len(entries) != 2 {
		t.Errorf("left over: %v", entries)
	}
	if w.notes.bytes != int64(len("do what you like\n")) && w.notes.bytes != int64(len(w.data)) || w.notes.open != 0 {
		t.Errorf("the progress ends at %d bytes, %d open", w.notes.bytes, w.notes.open)
	}
}

// blockSize is that of the tests.
const (
	blockSize = 64 << 10
	large     = 20*blockSize + 12345
)

func TestDownload(t *testing.T) {
	for _, size := range []int{0, 1, blockSize, large} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := newWorld(t, size, nil)
			l, err := w.pull(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if l.License != "mit" || l.Files[1].SHA256 != hubtest.SHA256(w.data) ||
				l.Files[0].GitOID != hubtest.GitOID([]byte("do what you like\n")) {
				t.Errorf("listing %+v", l)
			}
			w.check(t, l)
			if c := w.client.Commit(repo, "main"); c != l.Commit {
				t.Errorf("main is %q", c)
			}
			w.Requests()
			if _, err := w.client.Download(t.Context(), l, l.Files[1]); err != nil || len(w.Requests()) != 0 {
				t.Errorf("a file that is here is asked for again: %v", err)
			}
		})
	}
}

// TestFaults goes through what networks, mirrors and Hubs do. Whatever happens,
// the file is right or has no name.
func TestFaults(t *testing.T) {
	always := func(f hubtest.Fault) func(*world) { return func(w *world) { w.Fail("cdn", f) } }
	tests := []struct {
		name   string
		set    func(*world)
		kind   error    // nil: it succeeds all the same
		words  []string // in the error, its hint or the notes
		waited time.Duration
	}{
		{
			name:   "cut once",
			set:    func(w *world) { w.Fail("cdn", hubtest.Times(1, hubtest.Cut(w.Hub, 200_001))) },
			words:  []string{"closed after byte"},
			waited: time.Second,
		},
		{
			name:  "cut again and again, but it advances",
			set:   func(w *world) { w.Fail("cdn", hubtest.Cut(w.Hub, 50_000)) },
			words: []string{"closed after byte"},
		},
		{
			name:  "cut at once, always",
			set:   func(w *world) { w.Fail("cdn", hubtest.Cut(w.Hub, 0)) },
			kind:  ErrNetwork,
			words: []string{"6 times", "kept"},
		},
		{
			name:  "wrong bytes",
			set:   func(w *world) { w.Fail("cdn", hubtest.WrongByte(w.Hub)) },
			kind:  ErrIntegrity,
			words: []string{"have the hash", "nothing was kept"},
		},
		{
			name:  "whole files for ranges",
			set:   func(w *world) { w.Fail("cdn", hubtest.Whole()) },
			words: []string{"in one piece"},
		},
		{name: "whole files for ranges, cut once", set: func(w *world) {
			cut := hubtest.Times(4, hubtest.Cut(w.Hub, 2*blockSize+77))
			w.Fail("cdn", func(rw http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return cut(rw, r) })
		}, words: []string{"in one piece", "closed after"}},
		{name: "a web page", set: always(hubtest.HTML(true)), kind: ErrNetwork, words: []string{"web page", "browser"}},
		{
			name:  "a web page that does not say so",
			set:   always(hubtest.HTML(false)),
			kind:  ErrIntegrity,
			words: []string{"listing says"},
		},
		{
			name:  "a web page as long as the file",
			set:   func(w *world) { w.Fail("cdn", hubtest.HTMLOfSize(w.Hub)) },
			kind:  ErrNetwork,
			words: []string{"web page"},
		},
		{name: "an expired signature", set: func(w *world) {
			w.Fail("cdn", hubtest.Times(1, func(http.ResponseWriter, *http.Request) bool { w.Expire(); return false }))
		}},
		{name: "signatures that are never good", set: func(w *world) {
			w.Fail("cdn", func(http.ResponseWriter, *http.Request) bool { w.Expire(); return false })
		}, kind: ErrAccess, words: []string{"refuses the address", "6 times"}},
		{name: "500 once", set: always(hubtest.Times(1, hubtest.Status(500))), words: []string{"500"}, waited: time.Second},
		{name: "500 always", set: always(hubtest.Status(500)), kind: ErrNetwork, words: []string{"500", "6 times"}},
		{
			name:   "503 that says when",
			set:    always(hubtest.Times(1, hubtest.Status(503, "Retry-After", "7"))),
			waited: 7 * time.Second,
		},
		{
			name:   "429 that says when",
			set:    always(hubtest.Times(1, hubtest.Status(429, "RateLimit", `"resolvers";r=0;t=55`))),
			waited: 56 * time.Second,
			words:  []string{"too many requests"},
		},
		{
			name:  "429 for too long",
			set:   always(hubtest.Status(429, "Retry-After", "4000")),
			kind:  ErrNetwork,
			words: []string{"1h6m40s", "too many requests"},
		},
		{name: "404", set: always(hubtest.Status(404)), kind: ErrNotFound, words: []string{"not found"}},
		{name: "416", set: always(hubtest.Status(416)), kind: ErrIntegrity, words: []string{"fewer bytes", "pull again"}},
		{name: "compressed", set: always(func(rw http.ResponseWriter, r *http.Request) bool {
			rw.Header().Set("Content-Encoding", "br")
			return false
		}), kind: ErrNetwork, words: []string{"compressed"}},
		{
			name: "another range",
			set: always(
				func(rw http.ResponseWriter, r *http.Request) bool { r.Header.Set("Range", "bytes=5-9"); return false },
			),
			kind:  ErrNetwork,
			words: []string{"responded to a range"},
		},
		{name: "a shorter file", set: func(w *world) {
			w.Fail("cdn", hubtest.Times(1, func(rw http.ResponseWriter, r *http.Request) bool {
				w.Add(repo, hubtest.Repo{Files: map[string][]byte{"m-Q4_K_M.gguf": w.data[:large-1]}})
				return false
			}))
		}, kind: ErrIntegrity, words: []string{"has 1323064 bytes"}},
		{name: "a redirect to the wild", set: func(w *world) {
			w.Fail("cdn", hubtest.Status(302, "Location", "ftp://example.com/x"))
		}, kind: ErrNetwork, words: []string{"redirects"}},
		{name: "redirects in a circle", set: func(w *world) {
			w.Fail("cdn", hubtest.Status(302, "Location", w.CDN+"/again"))
		}, kind: ErrNetwork, words: []string{"more than 5 times"}},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, large, nil)
			tt.set(w)
			l, err := w.pull(t.Context())
			said := fmt.Sprint(err, "\n", strings.Join(w.notes.lines, "\n"))
			var e *Error
			if errors.As(err, &e) {
				said += "\n" + e.Hint()
			}

			for _, words := range tt.words {
				if !strings.Contains(said, words) {
					t.Errorf("it does not say %q but %s", words, said)
				}
			}

			if strings.Contains(said, "signature=") {
				t.Errorf("it tells a signed address: %s", said)
			}
			if !errors.Is(err, tt.kind) || (tt.kind == nil) != (err == nil) {
				t.Fatalf("got %v, want %v", err, tt.kind)
			}
			if tt.waited > 0 && !slices.Contains(w.waits, tt.waited) {
				t.Errorf("waited %v, want %v", w.waits, tt.waited)
			}

			if err == nil {
				w.check(t, l)
				return
			}

			if names := w.named(t); slices.Contains(names, hubtest.SHA256(w.data)) || slices.Contains(names, "m-Q4_K_M.gguf") {
				t.Errorf("there is %v", names)
			}

			// When the fault is gone, the same call succeeds.
			w.Fail("cdn", nil)
			w.Add(
				repo,
				hubtest.Repo{
					Files:   map[string][]byte{"m-Q4_K_M.gguf": w.data, "LICENSE": []byte("do what you like\n")},
					License: "mit",
				},
			)
			if l, err = w.pull(t.Context()); err != nil {
				t.Fatal("without the fault: ", err)
			}

			w.check(t, l)
		})
	}
}

// TestCutAnywhere cuts each connection at a random byte until the file is here.
func TestCutAnywhere(t *testing.T) {
	w := newWorld(t, large, nil)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	w.Fail("cdn", func(rw http.ResponseWriter, req *http.Request) bool {
		mu.Lock()
		n := 1 + r.IntN(3*blockSize)
		mu.Unlock()
		return hubtest.Cut(w.Hub, n)(rw, req)
	})
	l, err := w.pull(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.check(t, l)
}

func TestListErrors(t *testing.T) {
	tests := []struct {
		name, repo, revision string
		token                string
		fault                hubtest.Fault
		kind                 error
		words                string
	}{
		{name: "no such repository", repo: "org/none", kind: ErrNotFound, words: "needs a token"},
		{
			name:  "no such repository, with a token",
			repo:  "org/none",
			token: hubtest.Token,
			kind:  ErrNotFound,
			words: "check the spelling",
		},
		{name: "private", repo: "org/private", kind: ErrNotFound, words: "HF_TOKEN"},
		{name: "private, with a token", repo: "org/private", token: hubtest.Token},
		{name: "renamed", repo: "org/old"},
		{name: "no such revision", repo: repo, revision: "nope", kind: ErrNotFound, words: "no such revision"},
		{name: "a bad name", repo: "../x", kind: ErrNotFound, words: "org/name"},
		{name: "a name that is a path", repo: "a/b/c", kind: ErrNotFound, words: "org/name"},
		{name: "a bad revision", repo: repo, revision: "../../x", kind: ErrNotFound, words: "not a valid revision"},
		{
			name:  "bad token",
			repo:  repo,
			fault: hubtest.Status(401, "X-Error-Message", "Invalid credentials in Authorization header"),
			kind:  ErrNotFound,
		},
		{name: "403", repo: repo, fault: hubtest.Status(403), kind: ErrAccess, words: "fine-grained"},
		{name: "429", repo: repo, fault: hubtest.Times(2, hubtest.Status(429, "Retry-After", "3"))},
		{name: "500", repo: repo, fault: hubtest.Status(500), kind: ErrNetwork, words: "6 times"},
		{name: "a login page", repo: repo, fault: hubtest.HTML(true), kind: ErrNetwork, words: "web page"},
		{name: "no JSON", repo: repo, fault: hubtest.HTML(false), kind: ErrNetwork, words: "cannot be read"},
		{name: "no commit", repo: repo, fault: hubtest.Status(200), kind: ErrNetwork, words: "has no commit"},
		{
			name:  "another host",
			repo:  repo,
			fault: hubtest.Status(302, "Location", "file:///etc/passwd"),
			kind:  ErrNetwork,
			words: "redirects",
		},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 10, func(o *Options) { o.Token = tt.token })
			w.Add("org/private", hubtest.Repo{Private: true})
			w.Add("org/new", hubtest.Repo{})
			w.Add("org/old", hubtest.Repo{Moved: "org/new"})
			w.Fail("hub", tt.fault)
			_, err := w.client.List(t.Context(), tt.repo, firstOf(tt.revision, "main"))
			if !errors.Is(err, tt.kind) || (err == nil) != (tt.kind == nil) {
				t.Fatalf("got %v, want %v", err, tt.kind)
			}

			var e *Error
			if errors.As(err, &e) && !strings.Contains(e.Text+e.Todo, tt.words) {
				t.Errorf("%q, %q: want %q", e.Text, e.Todo, tt.words)
			}
		})
	}
}

func TestGated(t *testing.T) {
	w := newWorld(t, 100, func(o *Options) { o.Token = "" })
	w.Add(repo, hubtest.Repo{Files: map[string][]byte{"m-Q4_K_M.gguf": w.data}, Gated: "manual"})
	_, err := w.pull(t.Context())
	var e *Error
	if !errors.Is(err, ErrAccess) || !errors.As(err, &e) || !strings.Contains(e.Todo, w.URL+"/"+repo) {
		t.Errorf("got %v", err)
	}
}

// TestTokenStaysHome sends the Hub's visitors to hosts that are nearly its own.
func TestTokenStaysHome(t *testing.T) {
	c, err := New(Options{Endpoint: "https://hub.example", Cache: "x"})
	if err != nil {
		t.Fatal(err)
	}

	for address, same := range map[string]bool{
		"https://hub.example/x": true, "https://HUB.example:443/x": true, "http://hub.example/x": false,
		"https://cdn.hub.example/x": false, "https://hub.example:8443/x": false, "https://hub.example.evil/x": false,
		"https://hub.example@evil/x": false,
	} {
		req, _ := http.NewRequest("GET", address, nil)
		if c.isEndpoint(req.URL) != same {
			t.Errorf("%s: want %v", address, same)
		}
	}

	from, _ := http.NewRequest("GET", "https://hub.example/x", nil)
	for address, ok := range map[string]bool{
		"https://cdn.hub.example/x": true, "http://cdn.example/x": false, "https://localhost/x": false,
		"https://127.0.0.1/x": false,
		"https://[::1]/":      false, "https://10.0.0.1/": false, "https://169.254.169.254/latest": false,
		"https://[::ffff:10.0.0.1]/": false, "https://intranet/": false,
	} {
		to, _ := http.NewRequest("GET", address, nil)
		if (c.allowRedirect(from.URL, to.URL) == nil) != ok {
			t.Errorf("redirect to %s: want %v", address, ok)
		}
	}
}

// TestResume stops a download in the middle and goes on with what is there,
// except for what the disk has lost meanwhile.
func TestResume(t *testing.T) {
	w := newWorld(t, large, func(o *Options) { o.Connections = 1 })
	l, err := w.client.List(t.Context(), repo, "main")
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	w.notes.reached = func() { cancel(stop) }
	w.notes.at = 3*blockSize + 1000
	w.Fail("cdn", hubtest.Cut(w.Hub, 3*blockSize+1000))
	f := l.Files[1]
	if _, err := w.client.Download(ctx, l, f); !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}

	partial := w.client.Blob(repo, f.SHA256) + partialSuffix
	b, err := os.ReadFile(partial)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b[:3*blockSize], w.data[:3*blockSize]) {
		t.Fatal("the first blocks are not there")
	}

	b[blockSize+5] ^= 1
	if err := os.WriteFile(partial, b, 0o644); err != nil {
		t.Fatal(err)
	}

	w.Fail("cdn", nil)
	w.notes.at = 0
	w.Requests()
	if _, err := w.client.Download(t.Context(), l, f); err != nil {
		t.Fatal(err)
	}
	if w.notes.have != 3*blockSize {
		t.Errorf("resumed from %d", w.notes.have)
	}

	var ranges []string
	for _, r := range w.Requests() {
		if r.Host == "cdn" {
			ranges = append(ranges, r.Range)
		}
	}

	slices.Sort(ranges)
	want := []string{fmt.Sprintf("bytes=%d-%d", blockSize, 2*blockSize-1)}
	for at := 3 * blockSize; at < large; at += runBlocks * blockSize {
		want = append(want, fmt.Sprintf("bytes=%d-%d", at, min(at+runBlocks*blockSize, large)-1))
	}

	slices.Sort(want)
	if !slices.Equal(ranges, want) {
		t.Errorf("fetched %v, want %v", ranges, want)
	}

	got, err := os.ReadFile(w.client.Blob(repo, f.SHA256))
	if err != nil || !bytes.Equal(got, w.data) {
		t.Error("the file is wrong")
	}
}

// TestTwoAtOnce lets two processes' clients want the same file.
func TestTwoAtOnce(t *testing.T) {
	w := newWorld(t, large, nil)
	l, err := w.client.List(t.Context(), repo, "main")
	if err != nil {
		t.Fatal(err)
	}

	// The first holds the lock while the second begins.
	unlock, err := w.client.lock(t.Context(), repo, l.Files[1])
	if err != nil {
		t.Fatal(err)
	}

	second := &waiting{seen: make(chan struct{})}
	other := w.newClient(t, Options{Endpoint: w.URL, Cache: w.client.Dir, Progress: second})
	done := make(chan error, 1)
	go func() {
		_, err := other.Download(t.Context(), l, l.Files[1])
		done <- err
	}()
	<-second.seen
	if n := w.Requests(); len(n) != 1 {
		t.Errorf("while waiting: %v", n)
	}

	unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	w.Requests()
	if _, err := w.client.Download(t.Context(), l, l.Files[1]); err != nil || len(w.Requests()) != 0 {
		t.Errorf("fetched twice: %v", err)
	}
}

type waiting struct {
	silent
	seen chan struct{}
}

func (w *waiting) Note(text string) {
	if strings.Contains(text, "another process") {
		close(w.seen)
	}
}

func TestOffline(t *testing.T) {
	w := newWorld(t, 100, nil)
	l, err := w.pull(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.Requests()
	off := w.newClient(t, Options{Endpoint: w.URL, Cache: w.client.Dir, Offline: true})
	if _, err := off.Download(t.Context(), l, l.Files[1]); err != nil {
		t.Errorf("a file that is here: %v", err)
	}
	if _, err := off.List(t.Context(), repo, "main"); !errors.Is(err, ErrOffline) {
		t.Errorf("got %v", err)
	}
	if n := w.Requests(); len(n) != 0 {
		t.Errorf("offline, but %v", n)
	}
}

// TestHostileListing gives names and hashes that would leave the cache.
func TestHostileListing(t *testing.T) {
	w := newWorld(t, 100, nil)
	outside := filepath.Join(filepath.Dir(w.client.Dir), "evil.gguf")
	for _, path := range []string{"../evil.gguf", "/evil.gguf", "a/../../../../../evil.gguf", "a//b.gguf", "./a.gguf",
		`..\evil.gguf`, "C:evil.gguf", "a\x00.gguf", "a\n.gguf", "", "..", strings.Repeat("x", 300) + ".gguf"} {
		l := &Listing{Repo: repo, Revision: "main", Commit: strings.Repeat("a", 40)}
		f := File{Path: path, Size: 3, SHA256: hubtest.SHA256([]byte("abc"))}
		if _, err := w.client.Download(t.Context(), l, f); !errors.Is(err, ErrIntegrity) {
			t.Errorf("download %q: %v", path, err)
		}
		if err := w.client.Link(l, []File{f}); !errors.Is(err, ErrIntegrity) {
			t.Errorf("link %q: %v", path, err)
		}
		if _, err := w.client.Remove(repo, l.Commit, []string{path}); !errors.Is(err, ErrIntegrity) {
			t.Errorf("remove %q: %v", path, err)
		}
	}

	for _, sum := range []string{"../../../../x", "", strings.Repeat("g", 64), strings.Repeat("A", 64),
		strings.Repeat("a", 63)} {
		l := &Listing{Repo: repo, Revision: "main", Commit: strings.Repeat("a", 40)}
		_, err := w.client.Download(t.Context(), l, File{Path: "a.gguf", Size: 3, SHA256: sum})
		if !errors.Is(err, ErrIntegrity) {
			t.Errorf("hash %q: %v", sum, err)
		}
	}

	if _, err := os.Stat(outside); err == nil {
		t.Error("a file was written outside the cache")
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t, 100, nil)
	l, err := w.pull(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	freed, err := w.client.Remove(repo, l.Commit, []string{"m-Q4_K_M.gguf"})
	if err != nil || freed != 100 {
		t.Errorf("freed %d, %v", freed, err)
	}
	if files, _ := w.client.Files(repo, l.Commit); len(files) != 1 || files[0].Path != "LICENSE" {
		t.Errorf("left: %v", files)
	}
	if _, err := w.client.Remove(repo, l.Commit, []string{"LICENSE"}); err != nil {
		t.Fatal(err)
	}
	if repos, _ := w.client.Repos(); len(repos) != 0 {
		t.Errorf("left: %v", repos)
	}
}

func TestFromEnvironment(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, "hf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "hf", "token"), []byte("hf_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		environ string
		want    Options
	}{
		{"HOME=/h", Options{Cache: "/h/.cache/huggingface/hub"}},
		{"HOME=/h XDG_CACHE_HOME=/x", Options{Cache: "/x/huggingface/hub"}},
		{"HOME=/h HF_HOME=~/y", Options{Cache: "/h/y/hub"}},
		{"HF_HOME=/y HF_HUB_CACHE=/z HF_TOKEN=abc", Options{Cache: "/z", Token: "abc"}},
		{
			"HUGGINGFACE_HUB_CACHE=/z HUGGING_FACE_HUB_TOKEN=abc HF_ENDPOINT=https://m/",
			Options{Cache: "/z", Token: "abc", Endpoint: "https://m"},
		},
		{"HF_HOME=" + home + "/hf", Options{Cache: home + "/hf/hub", Token: "hf_file"}},
		{
			"HF_HOME=" + home + "/hf HF_HUB_DISABLE_IMPLICIT_TOKEN=1 HF_HUB_OFFLINE=yes",
			Options{Cache: home + "/hf/hub", Offline: true},
		},
		{
			"HF_HOME=/y HF_TOKEN_PATH=" + home + "/hf/token TRANSFORMERS_OFFLINE=1",
			Options{Cache: "/y/hub", Token: "hf_file", Offline: true},
		},
	}

	for _, tt := range tests {
		env := map[string]string{}
		for _, pair := range strings.Fields(tt.environ) {
			k, v, _ := strings.Cut(pair, "=")
			env[k] = v
		}
		got, err := FromEnvironment(func(name string) string { return env[name] })
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.environ, got, err)
		}
	}
}

func FuzzListing(f *testing.F) {
	f.Add(
		[]byte(
			`{"sha":"` + strings.Repeat(
				"a", 40,
			) + `","gated":"auto","cardData":{"license":["mit"]},"siblings":[{"rfilename":"a.gguf","size":3,` +
				`"lfs":{"sha256":"x","size":4}}]}`,
		),
	)
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := readListing(body, repo)
		if err != nil {
			return
		}
		for _, file := range l.Files {
			if file.Check() == nil && !filepath.IsLocal(file.Path) {
				t.Errorf("%q passes", file.Path)
			}
		}
	})
}
