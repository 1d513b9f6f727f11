package models

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"serve/hub"
	"serve/hub/hubtest"
	"serve/models/testmodel"
)

// place is a machine with a store, which may reach a Hub.
type place struct {
	*Store
	t    *testing.T
	seen *counter
}

func newPlace(t *testing.T, h *hubtest.Hub) *place {
	t.Helper()
	return placeIn(t, h, t.TempDir())
}

func placeIn(t *testing.T, h *hubtest.Hub, dir string) *place {
	t.Helper()
	seen := &counter{}
	o := hub.Options{Cache: filepath.Join(dir, "hub"), Offline: h == nil, Progress: seen}
	if h != nil {
		o.Endpoint = h.URL
	}
	c, err := hub.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &place{&Store{Hub: c, Home: filepath.Join(dir, "serve")}, t, seen}
}

func (p *place) ref(text string) *Reference {
	p.t.Helper()
	r, err := ParseReference(text, FileExists)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *place) pull(text string) *Local {
	p.t.Helper()
	l, _, err := p.Pull(p.t.Context(), p.ref(text), false)
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

// names lists the models by name.
func (p *place) names() (names []string) {
	p.t.Helper()
	list, err := p.List()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, l := range list {
		names = append(names, l.Name)
	}
	return names
}

// files lists what lies in the cache, but for locks.
func (p *place) files() (names []string) {
	filepath.WalkDir(p.Hub.Dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(name, ".locks") && d.Name() != "CACHEDIR.TAG" {
			names = append(names, strings.TrimPrefix(name, p.Hub.Dir))
		}
		return nil
	})
	return names
}

func startHub(t *testing.T) *hubtest.Hub {
	h := hubtest.New()
	t.Cleanup(h.Close)
	parts := testmodel.Split(testmodel.Options{}, 2)
	h.Add("org/M-GGUF", hubtest.Repo{License: "mit", Files: map[string][]byte{
		"M-Q4_K_M.gguf":              testmodel.Bytes(testmodel.Options{}),
		"M-Q8_0-00001-of-00002.gguf": parts[0],
		"M-Q8_0-00002-of-00002.gguf": parts[1],
		"mmproj-M-F16.gguf":          testmodel.Bytes(testmodel.Options{Context: 77}),
		"LICENSE":                    []byte("mit"),
	}})
	return h
}

func TestStore(t *testing.T) {
	h := startHub(t)
	p := newPlace(t, h)
	if _, err := p.Find(p.ref("org/M-GGUF")); !errors.Is(err, ErrNotHere) {
		t.Errorf("got %v", err)
	}

	whole := p.pull("org/M-GGUF")
	split := p.pull("org/M-GGUF:Q8_0")
	if len(whole.Weights) != 1 || whole.Projector == nil || len(whole.Texts) != 1 || whole.License != "mit" ||
		len(split.Weights) != 2 || split.Projector == nil {
		t.Errorf("got %+v and %+v", whole, split)
	}
	if got, want := p.names(), []string{"org/M-GGUF:Q4_K_M", "org/M-GGUF:Q8_0"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	h.Requests()
	for _, name := range []string{"org/M-GGUF", "org/M-GGUF:q8_0", "org/M-GGUF@main", "org/M-GGUF@" + whole.Commit,
		"hf.co/org/M-GGUF/M-Q4_K_M.gguf", "org/M-GGUF/M-Q8_0-00002-of-00002.gguf"} {
		p.pull(name)
	}

	if n := h.Requests(); len(n) != 0 {
		t.Errorf("asked for what is here: %v", n)
	}

	// Without the whole model there is the part of the other one, which shares
	// the projector.
	freed, err := p.Remove(whole)
	if err != nil || freed != whole.Weights[0].Size {
		t.Errorf("freed %d, %v", freed, err)
	}
	if _, err := p.Find(p.ref("org/M-GGUF")); !errors.Is(err, ErrNotHere) {
		t.Errorf("the default is replaced by another quantization: %v", err)
	}
	if freed, err = p.Remove(split); err != nil || freed != split.Bytes() {
		t.Errorf("freed %d of %d, %v", freed, split.Bytes(), err)
	}
	if left := p.files(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestForeignCache finds what another tool fetched: no listing, no projector, a
// name of the catalog by its hash.
func TestForeignCache(t *testing.T) {
	h := startHub(t)
	p := newPlace(t, h)
	p.pull("org/M-GGUF:Q8_0")
	if err := os.RemoveAll(p.Home); err != nil {
		t.Fatal(err)
	}
	foreign := placeIn(t, nil, filepath.Dir(p.Hub.Dir))
	l, err := foreign.Find(foreign.ref("org/M-GGUF"))
	if err != nil || l.Quant != "Q8_0" || len(l.Weights) != 2 {
		t.Errorf("got %+v, %v", l, err)
	}
	if unknown, err := foreign.Verify(t.Context(), l, false); err != nil || unknown != 0 {
		t.Errorf("%d unknown, %v", unknown, err)
	}
}

// TestMeaningIsKept uses a name of a series. A catalog that chooses otherwise, which
// is played by what the machine remembers, changes nothing until somebody asks.
func TestMeaningIsKept(t *testing.T) {
	h := startHub(t)
	weights := testmodel.Bytes(testmodel.Options{})
	for _, name := range []string{"phi-3-mini", "all-minilm"} { // the Hub is trusted with their hashes
		e := lookUp(name)
		h.Add(e.Repo, hubtest.Repo{Files: map[string][]byte{e.File: weights}})
	}
	p := newPlace(t, h)
	remembered := filepath.Join(p.Home, "names", "phi-3")

	if r := p.Settle(p.ref("phi3")); r.Entry.Name != "phi-3-mini" || !r.Chosen {
		t.Errorf("at first it means %+v", r)
	}
	if l := p.pull("phi3"); l.Name != "phi3" {
		t.Errorf("requests call it %s", l.Name)
	}
	if b, err := os.ReadFile(remembered); err != nil || string(b) != "phi-3-mini\n" {
		t.Errorf("remembered: %q, %v", b, err)
	}

	for _, tt := range []struct{ before, here, want string }{
		{"all-minilm", "", "phi-3-mini"}, // no longer here
		{"all-minilm", "all-minilm", "all-minilm"},
		{"no-such-model", "", "phi-3-mini"},
		{"whisper-tiny", "", "phi-3-mini"},
	} {
		if err := os.WriteFile(remembered, []byte(tt.before+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if tt.here != "" {
			p.pull(tt.here)
		}
		if r := p.Settle(p.ref("phi3:latest")); r.Entry.Name != tt.want || r.Text != "phi3:latest" || r.Repo != r.Entry.Repo {
			t.Errorf("after %s it means %+v, want %s", tt.before, r, tt.want)
		}
	}
	if r := p.Settle(p.ref("phi-3-mini")); r.Entry.Name != "phi-3-mini" {
		t.Errorf("a whole name means %s", r.Entry.Name)
	}
}

// TestPinned fetches a row of the catalog whose content is another one: the Hub says
// so, or it does not.
func TestPinned(t *testing.T) {
	e := lookUp("llama-3-8b")
	for name, tt := range map[string]struct {
		listed map[string]string
		words  string
	}{
		"replaced":       {nil, "no longer the file that the catalog knows"},
		"not what it is": {map[string]string{e.File: e.SHA256}, "have the hash"},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHub(t)
			files := map[string][]byte{e.File: testmodel.Bytes(testmodel.Options{})}
			h.Add(e.Repo, hubtest.Repo{Files: files, SHA256: tt.listed})
			p := newPlace(t, h)
			_, _, err := p.Pull(t.Context(), p.ref(e.Name), false)
			if !errors.Is(err, hub.ErrIntegrity) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %v", err)
			}
			if list := p.names(); len(list) > 0 {
				t.Errorf("%v is here", list)
			}
		})
	}
}

// TestVerifyRemembers reads a file once, and again when it was touched.
func TestVerifyRemembers(t *testing.T) {
	p := newPlace(t, startHub(t))
	l := p.pull("org/M-GGUF")
	p.seen.bytes.Store(0)
	if _, err := p.Verify(t.Context(), l, false); err != nil || p.seen.bytes.Load() != 0 {
		t.Errorf("read %d bytes after the pull, %v", p.seen.bytes.Load(), err)
	}
	if _, err := p.Verify(t.Context(), l, true); err != nil || p.seen.bytes.Load() != l.Bytes() {
		t.Errorf("read %d of %d bytes, %v", p.seen.bytes.Load(), l.Bytes(), err)
	}

	blob := p.Hub.Blob(l.Repo, l.Weights[0].ETag())
	b, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}

	b[len(b)-5] ^= 4
	if err := os.WriteFile(blob, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Verify(t.Context(), l, false); !errors.Is(err, hub.ErrIntegrity) {
		t.Errorf("got %v", err)
	}
	// A pull under another name finds the damage and mends it.
	if _, _, err := p.Pull(t.Context(), p.ref("org/M-GGUF"), true); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Verify(t.Context(), l, true); err != nil {
		t.Error(err)
	}
}

// counter is told of downloads too, whose blocks come side by side.
type counter struct{ bytes atomic.Int64 }

func (c *counter) Start(string, int64, int64) {}
func (c *counter) Add(n int64)                { c.bytes.Add(n) }
func (c *counter) Note(string)                {}
func (c *counter) Done()                      {}

// TestReadOnlyCache serves from a cache that cannot be written.
func TestReadOnlyCache(t *testing.T) {
	p := newPlace(t, startHub(t))
	p.pull("org/M-GGUF")
	p.Home = "/dev/null/none"
	l, err := p.Find(p.ref("org/M-GGUF/M-Q4_K_M.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Verify(t.Context(), l, false); err != nil {
		t.Error(err)
	}
}

func TestBundle(t *testing.T) {
	h := startHub(t)
	h.Add(
		"org/Copy-GGUF",
		hubtest.Repo{License: "apache-2.0", Files: map[string][]byte{"M-Q4_K_M.gguf": testmodel.Bytes(testmodel.Options{})}},
	)
	from := newPlace(t, h)
	locals := []*Local{from.pull("org/M-GGUF"), from.pull("org/M-GGUF:Q8_0"), from.pull("org/Copy-GGUF")}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	signed := filepath.Join(dir, "signed.tar")
	plain := filepath.Join(dir, "plain.tar")
	err = errors.Join(
		from.ExportBundle(t.Context(), signed, locals, private), from.ExportBundle(t.Context(), plain, locals, nil),
	)
	if err != nil {
		t.Fatal(err)
	}
	to := newPlace(t, nil)
	models, isSigned, err := to.ImportBundle(t.Context(), signed, public)
	if err != nil || !isSigned || len(models) != 3 || models[0].Listing.License != "mit" {
		t.Fatalf("got %+v, %v, %v", models, isSigned, err)
	}
	if got, want := to.names(), []string{
		"org/Copy-GGUF:Q4_K_M",
		"org/M-GGUF:Q4_K_M",
		"org/M-GGUF:Q8_0",
	}; !slices.Equal(
		got, want,
	) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, l := range locals {
		got, err := to.Find(to.ref(l.Name))
		if err != nil {
			t.Error(err)
			continue
		}
		_, err = to.Verify(t.Context(), got, true)
		if err != nil || got.License != l.License || got.Bytes() != l.Bytes() ||
			got.Commit != l.Commit {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if _, _, err := to.ImportBundle(t.Context(), plain, nil); err != nil {
		t.Error("a second import: ", err)
	}
	if err := from.ExportBundle(t.Context(), signed, []*Local{{Weights: []hub.CachedFile{{Name: "x"}}}}, nil); err == nil {
		t.Error("a file without a repository is exported")
	}

	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(signed)
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte, at int) []byte { c := bytes.Clone(b); c[at] ^= 1; return c }
	tests := []struct {
		name  string
		file  []byte
		key   ed25519.PublicKey
		words string
	}{
		{"another key", good, other, "not signed with this key"},
		{"no signature", unsigned, public, "not signed"},
		{"a byte of the manifest", flip(good, bytes.Index(good, []byte(`"license"`))+13), public, "not signed with this key"},
		{"a byte of a content", flip(unsigned, len(unsigned)-5000), nil, "damaged"},
		{"cut off", unsigned[:len(unsigned)/2], nil, "is truncated"},
		{"no bundle", []byte("hello"), nil, "not a serve bundle"},
		{"an empty file", nil, nil, "not a serve bundle"},
		{"another tar", entries(t, "x", "y"), nil, "not a serve bundle"},
		{"no manifest", entries(t, bundleManifest, "{}"), nil, "cannot be read"},
		{"another version", entries(t, bundleManifest, `{"format":"serve-bundle","version":2}`), nil, "version 2"},
		{
			"a content too many",
			append(
				entriesOpen(t, bundleManifest, `{"format":"serve-bundle","version":1}`),
				entries(t, bundleContents+strings.Repeat("a", 64), "x")...),
			nil,
			"not in its manifest",
		},
		{
			"a content that lacks",
			entries(t, bundleManifest, manifest("a.gguf", strings.Repeat("a", 64), "org/x", strings.Repeat("b", 40))),
			nil,
			"is missing",
		},
		{
			"a path outside",
			entries(t, bundleManifest, manifest("../a.gguf", strings.Repeat("a", 64), "org/x", strings.Repeat("b", 40))),
			nil,
			"outside its folder",
		},
		{
			"a hash that is a path",
			entries(t, bundleManifest, manifest("a.gguf", "../../../a", "org/x", strings.Repeat("b", 40))),
			nil,
			"no usable hash",
		},
		{
			"a repository that is a path",
			entries(t, bundleManifest, manifest("a.gguf", strings.Repeat("a", 64), "../x", strings.Repeat("b", 40))),
			nil,
			"repository",
		},
		{
			"a commit that is a path",
			entries(t, bundleManifest, manifest("a.gguf", strings.Repeat("a", 64), "org/x", "../../x")),
			nil,
			"not a commit",
		},
		{
			"no model inside",
			entries(
				t,
				bundleManifest,
				manifest("a.gguf", hubtest.SHA256([]byte("abc")), "org/x", strings.Repeat("b", 40)),
				bundleContents+hubtest.SHA256([]byte("abc")),
				"abc",
			),
			nil,
			"not a usable GGUF",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "b.tar")
			if err := os.WriteFile(name, tt.file, 0o644); err != nil {
				t.Fatal(err)
			}
			p := newPlace(t, nil)
			_, _, err := p.ImportBundle(t.Context(), name, tt.key)
			if err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %v, want %q", err, tt.words)
			}
			if left := p.files(); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func manifest(path, hash, repo, commit string) string {
	return `{"format":"serve-bundle","version":1,"models":[{"name":"x","listing":{"repo":"` + repo +
		`","revision":"main","commit":"` + commit +
		`","files":[{"path":"` + path + `","size":3,"sha256":"` + hash + `"}]},"paths":["` + path + `"]}]}`
}

// entries is a tar file of names and contents.
func entries(t *testing.T, pairs ...string) []byte {
	b := entriesOpen(t, pairs...)
	return append(b, make([]byte, 1024)...)
}

// entriesOpen lacks the end.
func entriesOpen(t *testing.T, pairs ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: pairs[i], Size: int64(len(pairs[i+1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGuardAtPull fetches files whose hashes are right and which must not be
// loaded: they do not stay, and nothing has a name.
func TestGuardAtPull(t *testing.T) {
	h := startHub(t)
	parts := testmodel.Split(testmodel.Options{}, 2)
	for name, files := range map[string]map[string][]byte{
		"a web page":            {"m-Q4_0.gguf": []byte("<html>" + strings.Repeat(" ", 100))},
		"cut off":               {"m-Q4_0.gguf": testmodel.Bytes(testmodel.Options{})[:70000]},
		"parts of two sets":     {"m-Q4_0-00001-of-00002.gguf": parts[0], "m-Q4_0-00002-of-00002.gguf": parts[0]},
		"parts out of order":    {"m-Q4_0-00001-of-00002.gguf": parts[1], "m-Q4_0-00002-of-00002.gguf": parts[0]},
		"a projector that lies": {"m-Q4_0.gguf": testmodel.Bytes(testmodel.Options{}), "mmproj-m-f16.gguf": []byte("no")},
	} {
		t.Run(name, func(t *testing.T) {
			h.Add("org/Bad-GGUF", hubtest.Repo{Files: files})
			p := newPlace(t, h)
			_, _, err := p.Pull(t.Context(), p.ref("org/Bad-GGUF"), false)
			if !errors.Is(err, ErrFormat) && !errors.Is(err, hub.ErrNetwork) {
				t.Errorf("got %v", err)
			}

			for _, f := range p.files() {
				if !strings.HasSuffix(f, ".journal") && !strings.HasSuffix(f, ".partial") {
					t.Errorf("left: %v", f)
				}
			}
		})
	}
}

// TestAdmission asks before weights are downloaded, when they are there, and at an import, with what is known then. A
// model that is not admitted is not visible, and none of its files is a text.
func TestAdmission(t *testing.T) {
	h := startHub(t)
	model := testmodel.Bytes(testmodel.Options{})
	h.Add("org/Signed", hubtest.Repo{License: "gemma", Gated: "manual", Files: map[string][]byte{
		"M-Q4_K_M.gguf": model, "LICENSE-Q8_0.gguf": testmodel.Bytes(testmodel.Options{Context: 77}), "LICENSE": []byte("x"),
		"model.sig": []byte("{}"), "README.md": []byte("y"),
	}})
	p := newPlace(t, h)
	var asked []*Candidate
	refuse := 0
	p.Admit = func(_ context.Context, c *Candidate) error {
		asked = append(asked, c)
		if len(asked) == refuse {
			return ErrRefused
		}
		return nil
	}
	p.Hub = hubWithToken(t, h, p)

	for refuse = 1; refuse <= 2; refuse++ {
		asked = nil
		h.Requests()
		if _, _, err := p.Pull(t.Context(), p.ref("org/Signed:Q4_K_M"), false); !errors.Is(err, ErrRefused) {
			t.Fatalf("got %v", err)
		}
		weights := slices.ContainsFunc(h.Requests(), func(r hubtest.Request) bool { return strings.HasSuffix(r.Path, ".gguf") })
		if names := p.names(); len(names) > 0 || weights != (refuse == 2) {
			t.Errorf("visible: %q; weights were downloaded: %v", names, weights)
		}
	}
	c := asked[0]
	if c.Name != "org/Signed:Q4_K_M" || c.Repo != "org/Signed" || c.License != "gemma" || c.Gated != "manual" || !c.Arriving ||
		len(c.Files) != 1 || c.Files[0].SHA256 != hubtest.SHA256(model) || c.Files[0].Place != "" || len(c.Texts) != 2 {
		t.Errorf("first asked about %+v", c)
	}
	if b, err := os.ReadFile(asked[1].Files[0].Place); err != nil || !bytes.Equal(b, model) {
		t.Errorf("the model is not there: %v", err)
	}

	refuse = 0
	local := p.pull("org/Signed:Q4_K_M")
	asked = nil
	if err := p.Admitted(t.Context(), local); err != nil || len(asked) != 1 || asked[0].Arriving || asked[0].Files[0].State == "" {
		t.Errorf("%v: %+v", err, asked)
	}
	file := filepath.Join(t.TempDir(), "models.tar")
	if err := p.ExportBundle(t.Context(), file, []*Local{local}, nil); err != nil {
		t.Fatal(err)
	}
	away := newPlace(t, nil)
	away.Admit = p.Admit
	asked = nil
	refuse = 1
	if _, _, err := away.ImportBundle(t.Context(), file, nil); !errors.Is(err, ErrRefused) || len(away.files()) > 0 {
		t.Errorf("%v: %q", err, away.files())
	}
	if c := asked[0]; len(c.Files) != 1 || len(c.Texts) != 2 || !c.Arriving || c.License != "gemma" {
		t.Errorf("asked about %+v", c)
	}
	if !IsLicense("LICENSE.md") || IsLicense("LICENSE-Q8_0.gguf") || !IsSignature("sub/model.sig") || !IsSignature("a.GGUF.sig") ||
		IsSignature("a.sig") {
		t.Error("texts are not recognized by their names")
	}
}

// hubWithToken is a client of the Hub for gated repositories.
func hubWithToken(t *testing.T, h *hubtest.Hub, p *place) *hub.Client {
	t.Helper()
	c, err := hub.New(hub.Options{Cache: p.Hub.Dir, Endpoint: h.URL, Token: hubtest.Token, Progress: p.seen})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
