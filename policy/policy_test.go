package policy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/certs/certstest"
	"serve/hub"
	"serve/hub/hubtest"
	"serve/models"
	"serve/oms"
)

// place is a folder with a policy, its keys and a model's file.
type place struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	home string
}

const weights = "these are the weights"

func newPlace(t *testing.T) *place {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, dir: t.TempDir(), key: key, home: t.TempDir()}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	p.write("keys/team.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	p.write("m.gguf", weights)
	return p
}

func (p *place) write(name, text string) string {
	p.t.Helper()
	file := filepath.Join(p.dir, name)
	if filepath.IsAbs(name) {
		file = name
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return file
}

func (p *place) read(text string) (*Policy, error) {
	return Read(p.write("policy.json", text), p.home)
}

func (p *place) policy(text string) *Policy {
	p.t.Helper()
	policy, err := p.read(text)
	if err != nil {
		p.t.Fatal(err)
	}
	return policy
}

// file returns a model in a file of one's own.
func (p *place) file() *models.Candidate {
	p.t.Helper()
	local := &models.Local{Name: "m", Weights: []hub.CachedFile{
		{File: hub.File{Path: "m.gguf"}, Name: filepath.Join(p.dir, "m.gguf")},
	}}
	c, err := local.Candidate()
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// sign signs what is in the folder under these names.
func (p *place) sign(id oms.Identity, shard int64, files ...string) string {
	p.t.Helper()
	root := p.t.TempDir()
	for i := 0; i < len(files); i += 2 {
		p.write(filepath.Join(root, files[i]), files[i+1])
	}
	tree := oms.Tree{Root: root}
	m, err := tree.Manifest(p.t.Context(), shard)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := id.Sign(m)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

func (p *place) expect(policy *Policy, c *models.Candidate, says string) {
	p.t.Helper()
	err := policy.Admit(p.t.Context(), c)
	switch {
	case says == "" && err != nil:
		p.t.Error(err)
	case says != "" && (!errors.Is(err, models.ErrRefused) || !strings.Contains(err.Error(), says)):
		p.t.Errorf("got %v, want %q", err, says)
	}
}

const byTeam = `{"version": 1, "signers": {"team": {"public_key": "keys/team.pem"}}, "allow": [{"signed_by": ["team"]}]}`

// TestSigned looks for signatures beside a file, and in serve's own folder.
func TestSigned(t *testing.T) {
	p := newPlace(t)
	policy := p.policy(byTeam)
	id := oms.Identity{Key: p.key}
	p.expect(policy, p.file(), "rule 1: it is not signed by team (the signature does not hold: there is none)")

	good := p.sign(id, 0, "m.gguf", weights, "config.json", "{}")
	sum := hubtest.SHA256([]byte(weights))
	for _, name := range []string{"m.gguf.sig", "model.sig", SignatureFile(p.home, sum)} {
		file := p.write(name, good)
		p.expect(policy, p.file(), "")
		p.write(name, p.sign(id, 7, "m.gguf", weights))
		p.expect(policy, p.file(), "")

		p.write(name, p.sign(id, 0, "m.gguf", "others"))
		p.expect(policy, p.file(), `"m.gguf" is not what was signed`)
		p.write(name, p.sign(id, 0, "other.gguf", weights))
		p.expect(policy, p.file(), `"m.gguf" is not signed`)
		p.write(name, p.sign(oms.Identity{Key: newPlace(t).key}, 0, "m.gguf", weights))
		p.expect(policy, p.file(), "not made with a key that is trusted")
		p.write(name, "garbage")
		p.expect(policy, p.file(), "is not a Sigstore bundle")
		os.Remove(file)
	}

	// A signature that does not count does not hide one that does.
	p.write("m.gguf.sig", "garbage")
	p.write("model.sig", good)
	p.expect(policy, p.file(), "")

	// A file that has changed since it was looked at is not the one that is admitted.
	before := p.file()
	p.write("m.gguf", strings.ToUpper(weights))
	p.expect(p.policy(byTeam), before, "has changed")
	p.expect(policy, p.file(), "is not what was signed")
}

// TestProjector wants everything that is loaded to be signed.
func TestProjector(t *testing.T) {
	p := newPlace(t)
	policy := p.policy(byTeam)
	c := p.file()
	c.Files = append(c.Files, models.CandidateFile{
		File: hub.File{Path: "mmproj.gguf"}, Place: p.write("mmproj.gguf", "projector"),
	})
	p.write("model.sig", p.sign(oms.Identity{Key: p.key}, 0, "m.gguf", weights))
	p.expect(policy, c, `"mmproj.gguf" is not signed`)
	p.write("model.sig", p.sign(oms.Identity{Key: p.key}, 0, "m.gguf", weights, "mmproj.gguf", "projector"))
	p.expect(policy, c, "")

	hashes := p.policy(`{"version": 1, "allow": [{"sha256": ["` + hubtest.SHA256([]byte(weights)) + `"]}]}`)
	p.expect(hashes, p.file(), "")
	p.expect(hashes, c, "the hash of mmproj.gguf is "+hubtest.SHA256([]byte("projector")))
}

// TestArriving decides before a download by the Hub's hashes, and puts off what these cannot decide.
func TestArriving(t *testing.T) {
	p := newPlace(t)
	policy := p.policy(byTeam)
	sum := hubtest.SHA256([]byte(weights))
	arriving := func(sig string, known, downloaded bool) *models.Candidate {
		c := &models.Candidate{Name: "m", Repo: "org/m", Arriving: true, Files: []models.CandidateFile{
			{File: hub.File{Path: "sub/m.gguf"}},
		}}
		if sig != "" {
			c.Texts = []models.CandidateFile{{File: hub.File{Path: "model.sig"}, Place: p.write("blob", sig)}}
		}
		if known {
			c.Files[0].SHA256 = sum
		}
		if downloaded {
			c.Files[0].Place = filepath.Join(p.dir, "m.gguf")
		}
		return c
	}
	id := oms.Identity{Key: p.key}
	good := p.sign(id, 0, "sub/m.gguf", weights)
	parts := p.sign(id, 7, "sub/m.gguf", weights)
	bad := p.sign(id, 0, "sub/m.gguf", "others")
	badParts := p.sign(id, 7, "sub/m.gguf", "others")
	for _, test := range []struct {
		sig               string
		known, downloaded bool
		says              string
	}{
		{good, true, false, ""}, {good, true, true, ""}, {good, false, false, ""}, {good, false, true, ""},
		{parts, true, false, ""}, {parts, true, true, ""},
		{bad, true, false, "not what was signed"}, {bad, false, false, ""}, {bad, false, true, "not what was signed"},
		{badParts, true, false, ""}, {badParts, true, true, "not"},
		{"", true, false, "there is none"}, {"", false, true, "there is none"},
	} {
		p.expect(policy, arriving(test.sig, test.known, test.downloaded), test.says)
	}
}

// TestRules combines conditions: all of a rule, one of the rules.
func TestRules(t *testing.T) {
	p := newPlace(t)
	policy := p.policy(`{"version": 1, "allow": [
		{"repositories": ["org/*"], "licenses": ["MIT", "apache-2.0"]},
		{"licenses": ["cc0-1.0"], "sha256": ["` + strings.ToUpper(hubtest.SHA256([]byte(weights))) + `"]}
	]}`)
	c := p.file()
	p.expect(policy, c, "rule 1: it does not come from a repository; rule 2: its license is not known")
	c.License = "cc0-1.0"
	p.expect(policy, c, "")
	c.Repo = "org/m"
	c.License = "gemma"
	p.expect(policy, c, "rule 1: its license is gemma")
	c.License = "mit"
	p.expect(policy, c, "")
	c.Repo = "other/m"
	p.expect(policy, c, "rule 1: its repository is other/m")
	p.expect(p.policy(`{"version": 1, "allow": []}`), c, "it admits none")
	p.expect(policy, &models.Candidate{Name: "nothing", License: "mit", Repo: "org/m"}, "has no files")

	done, cancel := context.WithCancel(t.Context())
	cancel()
	c = p.file()
	c.License = "cc0-1.0"
	if err := p.policy(string(must(os.ReadFile(policy.file)))).Admit(done, c); !errors.Is(err, models.ErrRefused) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestIdentity verifies certificates, and whose they are.
func TestIdentity(t *testing.T) {
	p := newPlace(t)
	a := certstest.New(t, "models of example.com")
	p.write("ca.pem", string(a.PEM()))
	sign := func(uri string) {
		t.Helper()
		pair := a.Issue(certstest.Subject{URIs: []string{uri}})
		key, err := oms.ReadPrivateKey(p.write("leaf-key.pem", string(pair.Key)))
		if err != nil {
			t.Fatal(err)
		}
		chain, err := oms.ReadCertificates(p.write("leaf.pem", string(pair.Certificate)))
		if err != nil {
			t.Fatal(err)
		}
		p.write("model.sig", p.sign(oms.Identity{Key: key, Chain: chain}, 0, "m.gguf", weights))
	}
	policy := p.policy(`{"version": 1, "signers": {"vendor": {"authorities": "ca.pem", "identity": "https://example.com/models"}},
		"allow": [{"signed_by": ["vendor"]}]}`)
	sign("https://example.com/models")
	p.expect(policy, p.file(), "")
	sign("https://example.com/models/other")
	p.expect(policy, p.file(), "it is one of https://example.com/models/other, not of")
}

// TestStrict refuses files that may mean something else than who wrote them thinks.
func TestStrict(t *testing.T) {
	p := newPlace(t)
	p.write("empty.pem", "")
	sum := strings.Repeat("a", 64)
	for text, says := range map[string]string{
		``:                                         "EOF",
		`{"version": 1, "allow": []} {}`:           "after the JSON value",
		`{"allow": []}`:                            "its version is 0",
		`{"version": 2, "allow": []}`:              "its version is 2",
		`{"version": 1, "alow": []}`:               "unknown field",
		`{"version": 1, "allow": [{}]}`:            "no condition",
		`{"version": 1, "allow": [], "allow": []}`: `"allow" is there twice`,
		`{"version": 1, "allow": [{"sha256": ["` + sum + `"], "SHA256": ["` + sum + `"]}]}`:        `"SHA256" is there twice`,
		`{"version": 1, "allow": [{"sha256": ["abc"]}]}`:                                           "64 hexadecimal digits",
		`{"version": 1, "allow": [{"sha": ["` + sum + `"]}]}`:                                      "unknown field",
		`{"version": 1, "allow": [{"signed_by": ["nobody"]}]}`:                                     `no signer "nobody"`,
		`{"version": 1, "allow": [{"repositories": ["org"]}]}`:                                     "not a pattern",
		`{"version": 1, "allow": [{"repositories": ["org/["]}]}`:                                   "not a pattern",
		`{"version": 1, "signers": {"x": {}}, "allow": []}`:                                        "either a public_key or authorities",
		`{"version": 1, "signers": {"x": {"public_key": "none.pem"}}, "allow": []}`:                "none.pem",
		`{"version": 1, "signers": {"x": {"public_key": "empty.pem"}}, "allow": []}`:               "not a PEM file",
		`{"version": 1, "signers": {"x": {"authorities": "keys/team.pem", "identity": "x"}}}`:      "no certificate",
		`{"version": 1, "signers": {"x": {"authorities": "ca.pem"}}, "allow": []}`:                 "the identity",
		`{"version": 1, "signers": {"x": {"public_key": "keys/team.pem", "identity": "x"}}}`:       "no identity",
		`{"version": 1, "allow": ` + strings.Repeat(" ", maxPolicy) + `[]}`:                        "larger than",
		`{"version": 1, "allow": ` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`: "",
	} {
		_, err := p.read(text)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60s: got %v, want %q", text, err, says)
		}
	}
	if _, err := Read(filepath.Join(p.dir, "none.json"), p.home); !errors.Is(err, os.ErrNotExist) && err == nil {
		t.Errorf("got %v", err)
	}
}
