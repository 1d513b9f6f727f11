package hub

import (
	"context"
	"crypto/fips140"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// Listing describes a repository at one commit.
type Listing struct {
	Repo     string `json:"repo"`     // org/name
	Revision string `json:"revision"` // as requested: a branch, a tag or a commit
	Commit   string `json:"commit"`   // 40 hexadecimal digits
	Files    []File `json:"files"`
	License  string `json:"license,omitempty"` // its identifier, or its name if it has a text of its own
	Link     string `json:"license_link,omitempty"`
	Gated    string `json:"gated,omitempty"` // "auto" or "manual" if terms must be accepted
}

// File is a file of a repository. It has a SHA-256 if it is stored in Git LFS, and
// otherwise the object ID of its git blob.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	GitOID string `json:"git_oid,omitempty"`
}

// ETag returns the name of the file's content in the cache.
func (f *File) ETag() string {
	if f.SHA256 != "" {
		return f.SHA256
	}
	return f.GitOID
}

// NewHash returns the hash that computes a file's etag.
func (f *File) NewHash() hash.Hash {
	if f.SHA256 != "" {
		return sha256.New()
	}
	h := gitHash{sha1.New()}
	fmt.Fprintf(h, "blob %d\x00", f.Size)
	return h
}

// gitHash computes SHA-1 where FIPS 140-3 mode is enforced, too: it is git's name for a small file, such as a license.
// Weights have a SHA-256.
type gitHash struct{ hash.Hash }

// Write implements hash.Hash, as does Sum.
func (h gitHash) Write(b []byte) (n int, err error) {
	fips140.WithoutEnforcement(func() { n, err = h.Hash.Write(b) })
	return n, err
}

// Sum returns the hash.
func (h gitHash) Sum(b []byte) (sum []byte) {
	fips140.WithoutEnforcement(func() { sum = h.Hash.Sum(b) })
	return sum
}

var (
	hex40    = regexp.MustCompile(`^[0-9a-f]{40}$`)
	hex64    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	repoPart = regexp.MustCompile(`^[0-9A-Za-z_](?:[\w.-]{0,94}[\w])?$`)
)

// CheckRepo checks a repository's name by the Hub's own rules.
func CheckRepo(repo string) error {
	org, name, ok := strings.Cut(repo, "/")
	if !ok || !repoPart.MatchString(org) || !repoPart.MatchString(name) || strings.Contains(repo, "--") ||
		strings.Contains(repo, "..") || strings.HasSuffix(repo, ".git") {
		return permanent(
			ErrNotFound, "the name of a repository must have the form org/name", "%q is not a valid repository name", repo,
		)
	}
	return nil
}

// checkRevision refuses a revision that cannot be part of a URL or a path.
func checkRevision(revision string) error {
	if revision == "" || len(revision) > 255 || !filepath.IsLocal(revision) ||
		strings.ContainsAny(revision, "\\?#% \t\r\n\x00") {
		return permanent(
			ErrNotFound, "a revision must be a branch, a tag or a commit", "%q is not a valid revision", revision,
		)
	}
	return nil
}

// CheckPath refuses the name of a file that would be outside of the folder of its
// snapshot on some operating system.
func CheckPath(path string) error {
	bad := path == "" || len(path) > 1024 || !filepath.IsLocal(path) || filepath.ToSlash(filepath.Clean(path)) != path ||
		strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == ':' })
	for part := range strings.SplitSeq(path, "/") {
		bad = bad || part == ".." || part == "." || part == "" || len(part) > 255
	}
	if bad {
		return permanent(
			ErrIntegrity,
			"do not trust this repository",
			"the Hub lists a file %q, whose path points outside its folder",
			oneLine(path, 100),
		)
	}
	return nil
}

// Check checks the repository, commit and revision of a listing that does not come
// from List. Files have their own Check.
func (l *Listing) Check() error {
	if err := CheckRepo(l.Repo); err != nil {
		return err
	}
	if !hex40.MatchString(l.Commit) {
		return permanent(ErrIntegrity, "", "%s: %q is not a commit", l.Repo, oneLine(l.Commit, 60))
	}
	return checkRevision(l.Revision)
}

// Check refuses a file that cannot be stored or verified.
func (f *File) Check() error {
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	if f.SHA256 != "" && !hex64.MatchString(f.SHA256) || f.SHA256 == "" && !hex40.MatchString(f.GitOID) {
		return permanent(
			ErrIntegrity, "check that HF_ENDPOINT is a complete mirror",
			"the Hub's listing has no usable hash for %s", f.Path,
		)
	}
	if f.Size < 0 {
		return permanent(
			ErrIntegrity, "check that HF_ENDPOINT is a complete mirror", "the Hub's listing has no size for %s", f.Path,
		)
	}
	return nil
}

// modelInfo is the part of the Hub's response that is used.
type modelInfo struct {
	ID       string          `json:"id"`
	SHA      string          `json:"sha"`
	Gated    json.RawMessage `json:"gated"` // false or a word
	CardData struct {
		License     json.RawMessage `json:"license"` // a word or a list of them
		LicenseName string          `json:"license_name"`
		LicenseLink string          `json:"license_link"`
	} `json:"cardData"`
	Siblings []struct {
		Name   string `json:"rfilename"`
		Size   *int64 `json:"size"`
		BlobID string `json:"blobId"`
		LFS    *struct {
			SHA256 string `json:"sha256"`
			Size   int64  `json:"size"`
		} `json:"lfs"`
	} `json:"siblings"`
}

// maxListing bounds the Hub's response; the largest repositories have 100,000 files.
const maxListing = 64 << 20

// List lists a repository at a revision, with one request that also pins the
// commit. So sizes and hashes are known before anything is downloaded.
func (c *Client) List(ctx context.Context, repo, revision string) (*Listing, error) {
	if err := CheckRepo(repo); err != nil {
		return nil, err
	}
	if err := checkRevision(revision); err != nil {
		return nil, err
	}

	address := c.endpoint.JoinPath("api/models", repo).String() + "/revision/" + url.PathEscape(revision) + "?blobs=true"
	what := repo
	if revision != "main" {
		what += "@" + revision
	}

	for try := 1; ; try++ {
		l, err := c.list(ctx, address, what, repo)
		if err == nil {
			l.Revision = revision
			return l, nil
		}
		var e *Error
		if errors.As(err, &e) && e.away {
			return nil, err // without a network, fail at once
		}
		if err := c.retry(ctx, try, err); err != nil {
			return nil, err
		}
	}
}

func (c *Client) list(ctx context.Context, address, what, repo string) (*Listing, error) {
	res, err := c.get(ctx, address, http.Header{"Accept": {"application/json"}})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, c.statusError(res, what, repo)
	}
	if isHTML(res) {
		return nil, htmlError(res.Request.URL.Hostname())
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxListing+1))
	if err != nil {
		return nil, transportError(c.endpoint.Host, err)
	}
	if len(body) > maxListing {
		return nil, permanent(
			ErrNetwork, "check that HF_ENDPOINT is a Hub", "%s: the listing has more than %d bytes", what, maxListing,
		)
	}
	return readListing(body, repo)
}

// readListing parses the Hub's response about a repository.
func readListing(body []byte, repo string) (*Listing, error) {
	todo := "check that HF_ENDPOINT is a Hub, or a complete mirror of one"
	var info modelInfo
	if err := json.Unmarshal(body, &info); err != nil {
		return nil, permanent(ErrNetwork, todo, "%s: the listing cannot be read: %v", repo, err)
	}
	if !hex40.MatchString(info.SHA) {
		return nil, permanent(ErrNetwork, todo, "%s: the listing has no commit", repo)
	}

	l := &Listing{Repo: repo, Commit: info.SHA, Link: info.CardData.LicenseLink, License: license(info.CardData.License)}
	if l.License == "" || l.License == "other" {
		l.License = firstOf(info.CardData.LicenseName, l.License)
	}

	_ = json.Unmarshal(info.Gated, &l.Gated) // false stays ""
	for _, s := range info.Siblings {
		f := File{Path: s.Name, Size: -1, GitOID: s.BlobID}
		if s.Size != nil {
			f.Size = *s.Size
		}
		if s.LFS != nil {
			f.SHA256 = s.LFS.SHA256
			f.Size = s.LFS.Size
		}
		l.Files = append(l.Files, f)
	}

	return l, nil
}

// license reads a word or the first of a list.
func license(raw json.RawMessage) string {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one
	}
	var many []string
	if json.Unmarshal(raw, &many) == nil {
		return strings.Join(many, ", ")
	}
	return ""
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
