package oms

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// folder writes files below a new folder, which is named model.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "model")
	for name, text := range files {
		write(t, filepath.Join(root, filepath.FromSlash(name)), text)
	}
	return root
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

var twoFiles = map[string]string{"weights.bin": "weights", "sub/adapter.bin": "adapter"}

// sign signs a folder beside which the signature lies.
func sign(t testing.TB, tree Tree, id Identity, shard int64) (text []byte, m *Manifest) {
	t.Helper()
	m, err := tree.Manifest(context.Background(), shard)
	if err != nil {
		t.Fatal(err)
	}
	text, err = id.Sign(m)
	if err != nil {
		t.Fatal(err)
	}
	return text, m
}

func verify(text []byte, trust Trust, tree Tree, lenient bool) (*Signer, error) {
	s, err := Read(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	m, signer, err := s.Verify(trust)
	if err != nil {
		return nil, err
	}
	return signer, m.CheckTree(context.Background(), tree, lenient)
}

func trusted(keys ...*ecdsa.PrivateKey) Trust {
	var t Trust
	for _, k := range keys {
		t.Keys = append(t.Keys, &k.PublicKey)
	}
	return t
}

// TestCurves signs and verifies with every curve, whole files and parts of them. The names are sorted, and what
// is git's is left out at the top alone.
func TestCurves(t *testing.T) {
	files := map[string]string{
		".gitignore":     "x",
		".git/config":    "x",
		"sub/.gitignore": "signed",
		".hidden/a":      "signed",
		"模型.bin":         "signed",
		"a.b":            "", // without bytes
		"a/b: 1:2":       "sorted behind it",
	}
	whole := []string{".hidden/a", "a.b", "a/b: 1:2", "sub/.gitignore", "模型.bin"}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		for _, shard := range []int64{0, 5} {
			key := newKey(t, curve)
			tree := Tree{Root: folder(t, files)}
			text, m := sign(t, tree, Identity{Key: key}, shard)
			want := whole
			if shard > 0 {
				want = slices.DeleteFunc(slices.Clone(want), func(name string) bool { return name == "a.b" })
			}
			if !slices.Equal(m.Files(), want) || m.Name != "model" || int64(m.ShardSize) != shard {
				t.Errorf("signed %q of %s", m.Files(), m.Name)
			}
			if !slices.IsSortedFunc(m.Resources, func(a, b Resource) int { return strings.Compare(a.Name, b.Name) }) {
				t.Errorf("not sorted: %v", m.Resources)
			}
			if shard == 0 {
				signer, err := verify(text, trusted(newKey(t, curve), key), tree, false)
				if err != nil || signer.Key != Fingerprint(&key.PublicKey) || signer.Names != nil {
					t.Errorf("%s: %v, %v", curve.Params().Name, signer, err)
				}
				continue
			}
			// In parts, a file without bytes is not signed, and it is no file that was added.
			if _, err := verify(text, trusted(key), tree, false); err != nil {
				t.Errorf("%s in parts: %v", curve.Params().Name, err)
			}
		}
	}
}

// TestChanges finds every change of a signed folder, as wholes and in parts.
func TestChanges(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(t *testing.T, root string)
		says    string // "" if the signature holds
		lenient string // the same with files that are not signed
	}{
		"nothing":         {func(*testing.T, string) {}, "", ""},
		"a bit":           {func(t *testing.T, root string) { write(t, root+"/weights.bin", "weightS") }, "not what was signed", "not what was signed"},
		"longer":          {func(t *testing.T, root string) { write(t, root+"/weights.bin", "weights!") }, "signed", "signed"},
		"shorter":         {func(t *testing.T, root string) { write(t, root+"/weights.bin", "weigh") }, "signed", "signed"},
		"another file":    {func(t *testing.T, root string) { write(t, root+"/sub/more.bin", "more") }, `"sub/more.bin`, ""},
		"a removed file":  {func(_ *testing.T, root string) { os.Remove(root + "/sub/adapter.bin") }, "is signed and missing", "is signed and missing"},
		"a file of git":   {func(t *testing.T, root string) { write(t, root+"/.gitattributes", "more") }, "", ""},
		"git's, deeper":   {func(t *testing.T, root string) { write(t, root+"/sub/.gitattributes", "more") }, "not signed", ""},
		"the signature":   {func(t *testing.T, root string) { write(t, root+"/model.sig", "any") }, "", ""},
		"what is ignored": {func(t *testing.T, root string) { write(t, root+"/logs/deep/1.txt", "any") }, "", ""},
		"ignored deeper":  {func(t *testing.T, root string) { write(t, root+"/sub/logs/1.txt", "any") }, "not signed", ""},
		"renamed": {func(_ *testing.T, root string) { os.Rename(root+"/weights.bin", root+"/Weights.bin") },
			"not signed", "is signed and missing"},
		"swapped": {func(t *testing.T, root string) {
			write(t, root+"/weights.bin", "adapter")
			write(t, root+"/sub/adapter.bin", "weights")
		}, "not what was signed", "not what was signed"},
		"a link to the same": {func(_ *testing.T, root string) {
			os.Rename(root+"/weights.bin", root+"/../blob")
			os.Symlink("../blob", root+"/weights.bin")
		}, "symbolic link", "symbolic link"},
	} {
		for _, shard := range []int64{0, 5} {
			t.Run(name, func(t *testing.T) {
				key := newKey(t, elliptic.P256())
				root := folder(t, twoFiles)
				tree := Tree{Root: root, Signature: filepath.Join(root, "model.sig"), IgnorePaths: []string{"logs"}}
				text, _ := sign(t, tree, Identity{Key: key}, shard)
				test.change(t, root)
				for lenient, says := range map[bool]string{false: test.says, true: test.lenient} {
					_, err := verify(text, trusted(key), Tree{Root: root, Signature: tree.Signature}, lenient)
					switch {
					case says == "" && err != nil:
						t.Errorf("lenient %v: %v", lenient, err)
					case says != "" && (!errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), says)):
						t.Errorf("lenient %v: got %v, want %q", lenient, err, says)
					}
				}
			})
		}
	}
}

// TestLinks follows links to files if that was signed, and no others.
func TestLinks(t *testing.T) {
	key := newKey(t, elliptic.P256())
	root := folder(t, twoFiles)
	if err := os.Symlink("weights.bin", filepath.Join(root, "same.bin")); err != nil {
		t.Fatal(err)
	}
	tree := Tree{Root: root}
	if _, err := tree.Manifest(t.Context(), 0); !errors.Is(err, ErrSignature) {
		t.Errorf("a link was signed: %v", err)
	}
	tree.AllowSymlinks = true
	text, m := sign(t, tree, Identity{Key: key}, 0)
	if len(m.Resources) != 3 {
		t.Errorf("signed %v", m.Files())
	}
	// Whether links are followed is the signature's to say.
	if _, err := verify(text, trusted(key), Tree{Root: root}, false); err != nil {
		t.Error(err)
	}
	// The model's folder may be a link itself: who verifies it has named it.
	link := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(text, trusted(key), Tree{Root: link}, false); err != nil {
		t.Error(err)
	}

	for _, target := range []string{"..", "nowhere", "same2.bin"} {
		name := filepath.Join(root, "same2.bin")
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
		if _, err := tree.Manifest(t.Context(), 0); err == nil {
			t.Errorf("a link to %s was signed", target)
		}
		os.Remove(name)
	}
}

// TestSingleFile signs a file by its name. The reference implementation names it ".".
func TestSingleFile(t *testing.T) {
	key := newKey(t, elliptic.P256())
	root := folder(t, twoFiles)
	file := filepath.Join(root, "weights.bin")
	text, m := sign(t, Tree{Root: file}, Identity{Key: key}, 0)
	if len(m.Resources) != 1 || m.Resources[0].Name != "weights.bin" || m.Name != "weights.bin" {
		t.Errorf("signed %+v", m)
	}
	if _, err := verify(text, trusted(key), Tree{Root: file}, false); err != nil {
		t.Error(err)
	}

	m.Resources[0].Name = single
	if err := m.index(); err != nil {
		t.Fatal(err)
	}
	text, err := Identity{Key: key}.Sign(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(text, trusted(key), Tree{Root: file}, false); err != nil {
		t.Error(err)
	}
	if _, err := verify(text, trusted(key), Tree{Root: root}, false); !errors.Is(err, ErrSignature) {
		t.Errorf("the signature of a file holds for a folder: %v", err)
	}
}

// TestCheck compares files of which hashes are known, as before a download.
func TestCheck(t *testing.T) {
	key := newKey(t, elliptic.P256())
	_, whole := sign(t, Tree{Root: folder(t, twoFiles)}, Identity{Key: key}, 0)
	_, parts := sign(t, Tree{Root: folder(t, twoFiles)}, Identity{Key: key}, 3)
	known := Content{Name: "weights.bin", SHA256: whole.digests["weights.bin"]}
	other := Content{Name: "weights.bin", SHA256: strings.Repeat("0", 64)}
	unsigned := Content{Name: "other.bin", SHA256: known.SHA256}
	for _, test := range []struct {
		m    *Manifest
		c    Content
		want error
	}{
		{whole, known, nil}, {whole, other, ErrSignature}, {whole, unsigned, ErrSignature}, {parts, known, ErrContentNeeded},
	} {
		if err := test.m.Check(t.Context(), []Content{test.c}); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.c.Name, err, test.want)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Tree{Root: folder(t, twoFiles)}).Manifest(done, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// authority is a root, an authority below it, and what that has signed.
type authority struct {
	root, middle *x509.Certificate
	key          *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	rootKey := newKey(t, elliptic.P384())
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
			BasicConstraintsValid: true, IsCA: true,
		}
	}
	a := &authority{key: newKey(t, elliptic.P256())}
	a.root = certify(t, ca("root"), ca("root"), &rootKey.PublicKey, rootKey)
	a.middle = certify(t, ca("middle"), a.root, &a.key.PublicKey, rootKey)
	return a
}

func certify(t *testing.T, c, parent *x509.Certificate, key any, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func (a *authority) trust() Trust {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return Trust{Roots: pool}
}

// TestCertificates verifies signatures by certificates: their authority, time and purpose.
func TestCertificates(t *testing.T) {
	a := newAuthority(t)
	who, err := url.Parse("https://example.com/signer")
	if err != nil {
		t.Fatal(err)
	}
	root := folder(t, twoFiles)
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		trust  Trust
		says   string
	}{
		"good": {func(*x509.Certificate) {}, a.trust(), ""},
		"for code": {func(c *x509.Certificate) {
			c.KeyUsage = 0
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		}, a.trust(), ""},
		"another authority": {func(*x509.Certificate) {}, newAuthority(t).trust(), "unknown authority"},
		"no authority":      {func(*x509.Certificate) {}, trusted(a.key), "no authority is trusted"},
		"ended":             {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, a.trust(), "expired"},
		"not begun":         {func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, a.trust(), "not yet valid"},
		"not for signing":   {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, a.trust(), "not for signing"},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, elliptic.P256())
			c := &x509.Certificate{
				Subject: pkix.Name{CommonName: "signer"}, NotBefore: time.Now().Add(-time.Hour),
				NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{who},
			}
			test.change(c)
			leaf := certify(t, c, a.middle, &key.PublicKey, a.key)
			text, _ := sign(t, Tree{Root: root}, Identity{Key: key, Chain: []*x509.Certificate{leaf, a.middle}}, 0)
			signer, err := verify(text, test.trust, Tree{Root: root}, false)
			switch {
			case test.says == "" && (err != nil || !slices.Equal(signer.Names, []string{who.String(), "signer"})):
				t.Errorf("%v, %v", signer, err)
			case test.says != "" && (!errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), test.says)):
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}

	if _, err := (Identity{Key: newKey(t, elliptic.P256()), Chain: []*x509.Certificate{a.middle}}).Sign(&Manifest{}); err == nil {
		t.Error("signed with the certificate of another key")
	}
	if _, err := verify(signedBy(t, root, a.key), a.trust(), Tree{Root: root}, false); !errors.Is(err, ErrSignature) {
		t.Errorf("a key counts as a certificate: %v", err)
	}
}

func signedBy(t *testing.T, root string, key *ecdsa.PrivateKey) []byte {
	text, _ := sign(t, Tree{Root: root}, Identity{Key: key}, 0)
	return text
}

// TestForged refuses bundles that are not what they must be, and says why. The statements are signed anew.
func TestForged(t *testing.T) {
	key := newKey(t, elliptic.P256())
	root := folder(t, twoFiles)
	good := signedBy(t, root, key)
	object := func(t *testing.T, v any, keys ...string) map[string]any {
		for _, k := range keys {
			v = v.(map[string]any)[k]
		}
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("no object at %v", keys)
		}
		return m
	}
	type change func(t *testing.T, b map[string]any)
	ofStatement := func(f change) change {
		return func(t *testing.T, b map[string]any) {
			var whole bundle
			if err := json.Unmarshal(good, &whole); err != nil {
				t.Fatal(err)
			}
			var s map[string]any
			if err := json.Unmarshal(whole.Envelope.Payload, &s); err != nil {
				t.Fatal(err)
			}
			f(t, s)
			payload, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			signature, err := ecdsa.SignASN1(rand.Reader, key, digest(&key.PublicKey, signedText(payload)))
			if err != nil {
				t.Fatal(err)
			}
			e := object(t, b, "dsseEnvelope")
			e["payload"] = payload
			e["signatures"] = []any{map[string]any{"sig": signature, "keyid": nil}}
		}
	}
	resource := func(t *testing.T, s map[string]any) map[string]any {
		return object(t, object(t, s, "predicate")["resources"].([]any)[0])
	}
	for name, test := range map[string]struct {
		change change
		says   string
	}{
		"unchanged":    {func(*testing.T, map[string]any) {}, ""},
		"signed again": {ofStatement(func(*testing.T, map[string]any) {}), ""},
		"more fields": {ofStatement(func(t *testing.T, s map[string]any) {
			resource(t, s)["uri"] = "x"
			object(t, s, "predicate")["more"] = 1
		}), ""},
		"a key of 2024": {func(t *testing.T, b map[string]any) {
			object(t, b, "verificationMaterial")["publicKey"] = map[string]any{"rawBytes": "AAAA", "keyDetails": "x"}
		}, ""},
		"no ignored paths": {ofStatement(func(t *testing.T, s map[string]any) {
			delete(object(t, s, "predicate", "serialization"), "ignore_paths")
		}), ""},
		"all is ignored": {ofStatement(func(t *testing.T, s map[string]any) {
			object(t, s, "predicate", "serialization")["ignore_paths"] = []string{".", "../x"}
		}), ""},
		"another media type": {func(_ *testing.T, b map[string]any) { b["mediaType"] = "application/json" }, "application/json"},
		"no envelope":        {func(_ *testing.T, b map[string]any) { delete(b, "dsseEnvelope") }, "no DSSE envelope"},
		"no signature":       {func(t *testing.T, b map[string]any) { object(t, b, "dsseEnvelope")["signatures"] = []any{} }, "0 signatures"},
		"no material":        {func(_ *testing.T, b map[string]any) { b["verificationMaterial"] = map[string]any{} }, "0 ways"},
		"two materials": {func(t *testing.T, b map[string]any) {
			object(t, b, "verificationMaterial")["certificate"] = map[string]any{}
		}, "2 ways"},
		"keyless": {func(_ *testing.T, b map[string]any) {
			b["verificationMaterial"] = map[string]any{"certificate": map[string]any{"rawBytes": "AAAA"}}
		}, "keyless"},
		"no certificate": {func(_ *testing.T, b map[string]any) {
			b["verificationMaterial"] = map[string]any{"x509CertificateChain": map[string]any{}}
		}, "no authority"},
		"another payload":    {func(t *testing.T, b map[string]any) { object(t, b, "dsseEnvelope")["payload"] = []byte("{}") }, "not made with a key"},
		"another type":       {func(t *testing.T, b map[string]any) { object(t, b, "dsseEnvelope")["payloadType"] = "text/plain" }, "text/plain"},
		"no statement":       {ofStatement(func(_ *testing.T, s map[string]any) { s["_type"] = "x" }), `"x"`},
		"another predicate":  {ofStatement(func(_ *testing.T, s map[string]any) { s["predicateType"] = "y" }), `"y"`},
		"an older predicate": {ofStatement(func(_ *testing.T, s map[string]any) { s["predicateType"] = olderType }), "2024"},
		"no serialization":   {ofStatement(func(t *testing.T, s map[string]any) { delete(object(t, s, "predicate"), "serialization") }), "does not say how"},
		"no resources":       {ofStatement(func(t *testing.T, s map[string]any) { object(t, s, "predicate")["resources"] = []any{} }), "0 files"},
		"another hash": {ofStatement(func(t *testing.T, s map[string]any) {
			object(t, s, "predicate", "serialization")["hash_type"] = "blake3"
		}), "blake3"},
		"another method":   {ofStatement(func(t *testing.T, s map[string]any) { object(t, s, "predicate", "serialization")["method"] = "chunks" }), "chunks"},
		"half a byte":      {ofStatement(func(t *testing.T, s map[string]any) { object(t, s, "predicate", "serialization")["shard_size"] = 0.5 }), "whole number"},
		"parts of no size": {ofStatement(func(t *testing.T, s map[string]any) { object(t, s, "predicate", "serialization")["method"] = "shards" }), "no size"},
		"outside":          {ofStatement(func(t *testing.T, s map[string]any) { resource(t, s)["name"] = "../x" }), "../x"},
		"not the shortest": {ofStatement(func(t *testing.T, s map[string]any) { resource(t, s)["name"] = "a//x" }), "a//x"},
		"half a digest":    {ofStatement(func(t *testing.T, s map[string]any) { resource(t, s)["digest"] = "abcd" }), "no SHA-256"},
		"no model":         {ofStatement(func(_ *testing.T, s map[string]any) { s["subject"] = []any{} }), "0 models"},
		"another model's sum": {ofStatement(func(t *testing.T, s map[string]any) {
			s["subject"] = []any{map[string]any{"name": "x", "digest": map[string]any{"sha256": "00"}}}
		}), "hash of the model"},
		"twice": {ofStatement(func(t *testing.T, s map[string]any) {
			p := object(t, s, "predicate")
			p["resources"] = append(p["resources"].([]any), resource(t, s))
		}), "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			var b map[string]any
			if err := json.Unmarshal(good, &b); err != nil {
				t.Fatal(err)
			}
			test.change(t, b)
			text, err := json.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			_, err = verify(text, trusted(key), Tree{Root: root}, false)
			switch {
			case test.says == "" && err != nil:
				t.Error(err)
			case test.says != "" && (!errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), test.says)):
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}

	for name, text := range map[string][]byte{
		"empty": nil, "cut off": good[:len(good)/2], "no JSON": []byte("model"), "two": append(bytes.Clone(good), good...),
		"too large": bytes.Repeat([]byte(" "), MaxSize+1),
	} {
		if _, err := Read(bytes.NewReader(text)); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := verify(good, trusted(newKey(t, elliptic.P256())), Tree{Root: root}, false); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if _, err := verify(good, Trust{}, Tree{Root: root}, false); !errors.Is(err, ErrSignature) {
		t.Errorf("no key: %v", err)
	}
}

// TestKeyFiles reads keys as openssl writes them, and refuses others.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(kind string, der []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "key.pem")
		text := "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" +
			string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
		write(t, name, text)
		return name
	}
	key := newKey(t, elliptic.P256())
	sec1, err := x509.MarshalECPrivateKey(key)
	if got, err := ReadPrivateKey(file("EC PRIVATE KEY", sec1, err)); err != nil || !got.Equal(key) {
		t.Error(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if got, err := ReadPrivateKey(file("PRIVATE KEY", pkcs8, err)); err != nil || !got.Equal(key) {
		t.Error(err)
	}
	if _, err := ReadPrivateKey(file("ENCRYPTED PRIVATE KEY", pkcs8, nil)); err == nil || !strings.Contains(err.Error(), "password") {
		t.Error(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if got, err := ReadPublicKey(file("PUBLIC KEY", public, err)); err != nil || !got.Equal(&key.PublicKey) {
		t.Error(err)
	}

	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err = x509.MarshalPKCS8PrivateKey(edPrivate)
	if _, err := ReadPrivateKey(file("PRIVATE KEY", pkcs8, err)); err == nil || !strings.Contains(err.Error(), "P-256") {
		t.Error(err)
	}
	public, err = x509.MarshalPKIXPublicKey(edPublic)
	if _, err := ReadPublicKey(file("PUBLIC KEY", public, err)); err == nil || !strings.Contains(err.Error(), "P-256") {
		t.Error(err)
	}
	public, err = x509.MarshalPKIXPublicKey(&newKey(t, elliptic.P224()).PublicKey)
	if _, err := ReadPublicKey(file("PUBLIC KEY", public, err)); err == nil || !strings.Contains(err.Error(), "P-224") {
		t.Error(err)
	}
	if _, err := (Identity{Key: newKey(t, elliptic.P224())}).Sign(&Manifest{}); err == nil {
		t.Error("signed with P-224")
	}
	if _, err := ReadRoots(file("PUBLIC KEY", public, nil)); err == nil {
		t.Error("a key is an authority")
	}
	for name, ok := range map[string]bool{"logs": true, "a/b": true, "*.txt": false, "/x": false, "../x": false, ".": false, "a/": false} {
		if err := CheckIgnored([]string{name}); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzRead reads bundles and statements that are no such thing.
func FuzzRead(f *testing.F) {
	key := newKey(f, elliptic.P256())
	root := folder(f, twoFiles)
	tree := Tree{Root: root}
	text, _ := sign(f, tree, Identity{Key: key}, 3)
	var b bundle
	if err := json.Unmarshal(text, &b); err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(b.Envelope.Payload)
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := Read(bytes.NewReader(text)); err == nil {
			if m, _, err := s.Verify(trusted(key)); err == nil && len(m.Resources) == 0 {
				t.Error("nothing is signed")
			}
		}
		if m, err := readStatement(text); err == nil {
			for _, name := range m.Files() {
				if name != single && !filepath.IsLocal(name) {
					t.Errorf("%q is signed", name)
				}
			}
		}
	})
}
