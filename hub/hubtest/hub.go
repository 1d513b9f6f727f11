// Package hubtest is a Hugging Face Hub in miniature, for tests: the API and the
// files on one host, a CDN with signed addresses on another, and every fault that
// networks and Hubs are known for.
package hubtest

import (
	"bytes"
	"crypto/fips140"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Repo is a repository. A file whose name ends in .gguf is kept as by Git LFS,
// behind the CDN; the Hub itself sends the others.
type Repo struct {
	Files   map[string][]byte
	License string
	Private bool   // found only with Token
	Gated   string // "manual" or "auto": its files need Token
	Moved   string // the repository's new name, if it was renamed
	Branch  string // where Commit is seen, "main"
	// SHA256 is what the listing says of a file in place of the truth.
	SHA256 map[string]string
}

// known is a repository with what is computed of it once: files may be large.
type known struct {
	Repo
	commit string
	sha256 map[string]string // of what LFS keeps
	gitOID map[string]string
}

// Token is the one that private and gated repositories ask for.
const Token = "hf_secretsecretsecretsecretsecretsecret"

// Request is what arrived.
type Request struct {
	Host          string // "hub" or "cdn"
	Path          string
	Range         string
	Authorization string
}

// Fault answers a request in the place of the Hub, or returns false.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Hub is the pair of hosts.
type Hub struct {
	URL, CDN string // addresses

	hub, cdn *httptest.Server
	mu       sync.Mutex
	repos    map[string]known
	faults   map[string]Fault
	requests []Request
	expired  int // signatures up to this one are refused
	signed   int
}

// New starts a Hub; Close stops it.
func New() *Hub {
	h := &Hub{repos: map[string]known{}, faults: map[string]Fault{}}
	h.hub = httptest.NewServer(h.host("hub", h.serveHub))
	h.cdn = httptest.NewServer(h.host("cdn", h.serveCDN))
	h.URL, h.CDN = h.hub.URL, h.cdn.URL
	return h
}

// Close stops both hosts and cuts what is open.
func (h *Hub) Close() {
	for _, s := range []*httptest.Server{h.hub, h.cdn} {
		s.CloseClientConnections()
		s.Close()
	}
}

// Add puts a repository on the Hub, or replaces it, and returns its commit.
func (h *Hub) Add(name string, r Repo) string {
	k := known{Repo: r, sha256: map[string]string{}, gitOID: map[string]string{}}
	all := new(bytes.Buffer)
	fmt.Fprintln(all, name, r.License)
	for _, path := range slices.Sorted(maps.Keys(r.Files)) {
		if isLFS(path) {
			k.sha256[path] = SHA256(r.Files[path])
			k.gitOID[path] = GitOID([]byte(k.sha256[path])) // of the pointer
		} else {
			k.gitOID[path] = GitOID(r.Files[path])
		}
		fmt.Fprintln(all, path, k.gitOID[path])
	}
	k.commit = GitOID(all.Bytes())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.repos[name] = k
	return k.commit
}

// Fail lets a fault answer requests to "hub" or "cdn"; nil ends it.
func (h *Hub) Fail(host string, f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults[host] = f
}

// Expire makes every signed address that was given so far worthless.
func (h *Hub) Expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expired = h.signed
}

// Requests returns what arrived since the last call.
func (h *Hub) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.requests
	h.requests = nil
	return r
}

// SHA256 is how LFS names a content.
func SHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// GitOID is how git names a content.
func GitOID(b []byte) string {
	var sum [sha1.Size]byte
	fips140.WithoutEnforcement(func() { sum = sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(b), b)) })
	return hex.EncodeToString(sum[:])
}

// host records requests, lets a fault have them first, and serves the rest.
func (h *Hub) host(name string, serve http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.requests = append(h.requests, Request{name, r.URL.Path, r.Header.Get("Range"), r.Header.Get("Authorization")})
		fault := h.faults[name]
		h.mu.Unlock()
		if fault == nil || !fault(w, r) {
			serve(w, r)
		}
	})
}

func (h *Hub) serveHub(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/", 5)
	for i := range parts {
		parts[i], _ = url.PathUnescape(parts[i])
	}
	switch {
	case len(parts) == 5 && parts[0] == "api" && parts[1] == "models":
		name, revision, _ := strings.Cut(parts[3]+"/"+parts[4], "/revision/")
		h.list(w, r, parts[2]+"/"+name, revision)
	case len(parts) == 5 && parts[2] == "resolve":
		h.resolve(w, r, parts[0]+"/"+parts[1], parts[3], parts[4])
	default:
		http.NotFound(w, r)
	}
}

// find returns a repository at a revision, or answers with the Hub's error.
func (h *Hub) find(w http.ResponseWriter, r *http.Request, name, revision string) (known, bool) {
	h.mu.Lock()
	repo, ok := h.repos[name]
	h.mu.Unlock()
	authorized := r.Header.Get("Authorization") == "Bearer "+Token
	branch := repo.Branch
	if branch == "" {
		branch = "main"
	}
	switch {
	case !ok && authorized:
		refuse(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
	case !ok || repo.Private && !authorized:
		refuse(w, http.StatusUnauthorized, "RepoNotFound", "Invalid username or password.")
	case repo.Moved != "":
		http.Redirect(w, r, strings.Replace(r.URL.Path, name, repo.Moved, 1)+"?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
	case revision != branch && revision != repo.commit:
		refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+revision)
	default:
		return repo, true
	}
	return known{}, false
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Error-Code", code)
	w.Header().Set("X-Error-Message", message)
	w.Header().Set("X-Request-Id", "Root=1-test")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": message})
}

func (h *Hub) list(w http.ResponseWriter, r *http.Request, name, revision string) {
	repo, ok := h.find(w, r, name, revision)
	if !ok {
		return
	}

	type object = map[string]any
	siblings := []object{}
	for _, path := range slices.Sorted(maps.Keys(repo.Files)) {
		b := repo.Files[path]
		s := object{"rfilename": path}
		if r.URL.Query().Get("blobs") == "true" {
			s["size"] = len(b)
			s["blobId"] = repo.gitOID[path]
			if isLFS(path) {
				sum := repo.sha256[path]
				if said, ok := repo.SHA256[path]; ok {
					sum = said
				}
				s["lfs"] = object{"sha256": sum, "size": len(b), "pointerSize": 134}
			}
		}
		siblings = append(siblings, s)
	}

	var gated any = false
	if repo.Gated != "" {
		gated = repo.Gated
	}

	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(
		w,
	).Encode(
		object{"id": name, "modelId": name, "sha": repo.commit, "private": repo.Private, "gated": gated,
			"cardData": object{"license": repo.License}, "siblings": siblings},
	)
}

func isLFS(path string) bool { return strings.HasSuffix(path, ".gguf") }

func (h *Hub) resolve(w http.ResponseWriter, r *http.Request, name, revision, path string) {
	repo, ok := h.find(w, r, name, revision)
	if !ok {
		return
	}

	b, ok := repo.Files[path]
	if !ok {
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}

	if repo.Gated != "" && r.Header.Get("Authorization") != "Bearer "+Token {
		refuse(
			w,
			http.StatusUnauthorized,
			"GatedRepo",
			"Access to model "+name+" is restricted. You must have access to it and be authenticated to access it. "+
				"Please log in.",
		)
		return
	}

	w.Header().Set("X-Repo-Commit", repo.commit)
	if !isLFS(path) {
		w.Header().Set("ETag", strconv.Quote(repo.gitOID[path]))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		return
	}

	w.Header().Set("X-Linked-ETag", strconv.Quote(repo.sha256[path]))
	w.Header().Set("X-Linked-Size", strconv.Itoa(len(b)))
	h.mu.Lock()
	h.signed++
	address := fmt.Sprintf("%s/%s/%s?signature=%d", h.CDN, name, path, h.signed)
	h.mu.Unlock()
	http.Redirect(w, r, address, http.StatusFound)
}

func (h *Hub) serveCDN(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
	signature, err := strconv.Atoi(r.URL.Query().Get("signature"))
	h.mu.Lock()
	valid := err == nil && signature > h.expired && signature <= h.signed
	repo := h.repos[strings.Join(parts[:min(2, len(parts))], "/")]
	h.mu.Unlock()
	if !valid || len(parts) < 3 {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(repo.Files[parts[2]]))
}
