package ops

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"

	"serve/fault"
	"serve/server/wire"
)

// page is the web page: a few files, held in memory.
type page struct {
	files map[string]*pageFile // by path, "/" for index.html
}

type pageFile struct {
	plain  []byte
	zipped func() []byte // compresses on first use; returns nil if that saves nothing
	kind   string        // Content-Type
	tag    string        // ETag
	cache  string        // Cache-Control
}

// pagePolicy allows the page to load resources from this server only, to run no scripts but its own
// file, and to be framed by nobody. Even model output that gets past sanitizing cannot fetch from
// other hosts or turn a string into a script.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types dompurify"

// newPage reads the files. Without any, the page explains how to build it.
func newPage(files fs.FS) (*page, error) {
	p := &page{files: map[string]*pageFile{}}
	if files == nil {
		return p, nil
	}

	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		f := &pageFile{
			plain: b,
			kind:  mime.TypeByExtension(path.Ext(name)),
			tag:   `"` + hex.EncodeToString(sum[:8]) + `"`,
			cache: "no-cache",
		}
		if strings.HasPrefix(name, "assets/") {
			f.cache = "public, max-age=31536000, immutable" // their names contain a hash of their contents
		}
		f.zipped = sync.OnceValue(func() []byte { return zip(b) })
		if name == "index.html" {
			name = ""
		}
		p.files["/"+name] = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the page: %w", err)
	}

	return p, nil
}

// zip compresses, or returns nil if that makes nothing smaller.
func zip(b []byte) []byte {
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	_, err := z.Write(b)
	if err = errors.Join(err, z.Close()); err != nil || zipped.Len() >= len(b) {
		return nil
	}
	return zipped.Bytes()
}

// answer answers GET requests for the page's files.
func (p *page) answer(w http.ResponseWriter, r *http.Request) *fault.Error {
	f := p.files[r.URL.Path]
	if f == nil {
		e := wire.UnknownPath(r)
		if len(p.files) == 0 {
			e.Message = "This build of serve has no web UI; make builds one with it. The API is at /v1."
		}
		return e
	}

	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", f.cache)
	h.Set("ETag", f.tag)
	h.Add("Vary", "Accept-Encoding")
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}

	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		if zipped := f.zipped(); zipped != nil {
			h.Set("Content-Encoding", "gzip")
			body = zipped
		}
	}

	h.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method != http.MethodHead {
		w.Write(body)
	}

	return nil
}
