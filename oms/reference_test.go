package oms

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reference is PyPI's model-signing, which is OMS's reference implementation.
type reference struct {
	t   *testing.T
	in  *json.Encoder
	out *json.Decoder
}

func startReference(t *testing.T) *reference {
	t.Helper()
	interpreter := os.Getenv("TEST_SIGNING")
	if interpreter == "" {
		t.Skip("TEST_SIGNING is not set: make provenance runs this with packages of PyPI")
	}
	cmd := exec.Command(interpreter, filepath.Join("testdata", "reference.py"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &reference{t: t, in: json.NewEncoder(in), out: json.NewDecoder(out)}
}

// run runs a command, which must say something; "" if it must succeed.
func (r *reference) run(says string, args ...string) {
	r.t.Helper()
	if err := r.in.Encode(args); err != nil {
		r.t.Fatal(err)
	}
	var answer struct {
		Status int
		Output string
	}
	if err := r.out.Decode(&answer); err != nil {
		r.t.Fatal(err)
	}
	if (answer.Status == 0) != (says == "") || !strings.Contains(answer.Output, says) {
		r.t.Errorf("%s: %d, not %q\n%s", strings.Join(args, " "), answer.Status, says, answer.Output)
	}
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "one.pem")
	write(t, name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	return name
}

// keyFiles writes a key and its public half.
func keyFiles(t *testing.T, key *ecdsa.PrivateKey) (private, public string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	half, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "PRIVATE KEY", der), writePEM(t, "PUBLIC KEY", half)
}

// verifyFile verifies as serve does.
func verifyFile(trust Trust, tree Tree) error {
	text, err := os.ReadFile(tree.Signature)
	if err != nil {
		return err
	}
	_, err = verify(text, trust, tree, false)
	return err
}

// TestReferenceKeys lets the reference implementation verify what was signed here with each curve, and the other
// way round. Both find the same change.
func TestReferenceKeys(t *testing.T) {
	r := startReference(t)
	files := map[string]string{
		"a.txt": "sorted in another order there", "a/b": "b", ".hidden": "x", "模.bin": "y", ".gitignore": "z", "logs/1": "l",
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key := newKey(t, curve)
		private, public := keyFiles(t, key)
		root := folder(t, files)

		ours := filepath.Join(root, "ours.sig")
		text, _ := sign(t, Tree{Root: root, Signature: ours, IgnorePaths: []string{"logs"}}, Identity{Key: key}, 0)
		write(t, ours, string(text))
		r.run("", "verify", "key", root, "--signature", ours, "--public_key", public)

		os.Remove(ours)

		theirs := filepath.Join(root, "theirs.sig")
		r.run("", "sign", "key", root, "--signature", theirs, "--private_key", private, "--ignore-paths", root+"/logs")
		if err := verifyFile(trusted(key), Tree{Root: root, Signature: theirs}); err != nil {
			t.Errorf("%s: %v", curve.Params().Name, err)
		}
		write(t, ours, string(text))
		write(t, filepath.Join(root, "a/b"), "c")
		r.run("Verification failed", "verify", "key", root, "--signature", ours, "--public_key", public, "--ignore-paths", theirs)
		os.Remove(ours)
		if err := verifyFile(trusted(key), Tree{Root: root, Signature: theirs}); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", curve.Params().Name, err)
		}
	}
}

// TestReferenceParts verifies what the reference implementation has signed in parts of files. It cannot do so itself:
// its signatures have the size of the parts with a point, as protobuf writes numbers, and it wants one without.
func TestReferenceParts(t *testing.T) {
	r := startReference(t)
	key := newKey(t, elliptic.P256())
	private, public := keyFiles(t, key)
	root := folder(t, twoFiles)
	sig := filepath.Join(t.TempDir(), "model.sig")
	r.run("", "shards", "sign", root, sig, private)
	r.run("'float' object", "shards", "verify", root, sig, public)
	if err := verifyFile(trusted(key), Tree{Root: root, Signature: sig}); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(root, "weights.bin"), "weight5")
	if err := verifyFile(trusted(key), Tree{Root: root, Signature: sig}); !errors.Is(err, ErrSignature) {
		t.Errorf("got %v", err)
	}
}

// TestReferenceFile verifies a file that was signed alone, which the reference implementation names ".". A file that
// was signed here has its name, as OMS demands, and is verified there in its folder.
func TestReferenceFile(t *testing.T) {
	r := startReference(t)
	key := newKey(t, elliptic.P256())
	private, public := keyFiles(t, key)
	file := filepath.Join(folder(t, twoFiles), "weights.bin")
	theirs := filepath.Join(t.TempDir(), "theirs.sig")
	r.run("", "sign", "key", file, "--signature", theirs, "--private_key", private)
	if err := verifyFile(trusted(key), Tree{Root: file, Signature: theirs}); err != nil {
		t.Error(err)
	}

	ours := filepath.Join(t.TempDir(), "ours.sig")
	text, _ := sign(t, Tree{Root: file}, Identity{Key: key}, 0)
	write(t, ours, string(text))
	r.run("", "verify", "key", filepath.Dir(file), "--signature", ours, "--public_key", public, "--ignore_unsigned_files")
}

// TestReferenceLinks agrees about links.
func TestReferenceLinks(t *testing.T) {
	r := startReference(t)
	key := newKey(t, elliptic.P256())
	private, public := keyFiles(t, key)
	root := folder(t, twoFiles)
	if err := os.Symlink("weights.bin", filepath.Join(root, "same.bin")); err != nil {
		t.Fatal(err)
	}
	sig := filepath.Join(root, "model.sig")
	r.run("symlink", "sign", "key", root, "--signature", sig, "--private_key", private)
	r.run("", "sign", "key", root, "--signature", sig, "--private_key", private, "--allow_symlinks")
	if err := verifyFile(trusted(key), Tree{Root: root, Signature: sig}); err != nil {
		t.Error(err)
	}
	text, _ := sign(t, Tree{Root: root, Signature: sig, AllowSymlinks: true}, Identity{Key: key}, 0)
	write(t, sig, string(text))
	r.run("", "verify", "key", root, "--signature", sig, "--public_key", public, "--allow_symlinks")
}

// TestReferenceCertificates does the same with certificates.
func TestReferenceCertificates(t *testing.T) {
	r := startReference(t)
	a := newAuthority(t)
	key := newKey(t, elliptic.P256())
	leaf := certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "signer"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.middle, &key.PublicKey, a.key)
	private, _ := keyFiles(t, key)
	rootFile := writePEM(t, "CERTIFICATE", a.root.Raw)
	other := writePEM(t, "CERTIFICATE", newAuthority(t).root.Raw)

	root := folder(t, twoFiles)
	sig := filepath.Join(root, "model.sig")
	text, _ := sign(t, Tree{Root: root, Signature: sig}, Identity{Key: key, Chain: []*x509.Certificate{leaf, a.middle}}, 0)
	write(t, sig, string(text))
	r.run("", "verify", "certificate", root, "--signature", sig, "--certificate_chain", rootFile)
	r.run("Verification failed", "verify", "certificate", root, "--signature", sig, "--certificate_chain", other)

	r.run("", "sign", "certificate", root, "--signature", sig, "--private_key", private,
		"--signing_certificate", writePEM(t, "CERTIFICATE", leaf.Raw),
		"--certificate_chain", writePEM(t, "CERTIFICATE", a.middle.Raw))
	if err := verifyFile(a.trust(), Tree{Root: root, Signature: sig}); err != nil {
		t.Error(err)
	}
	if err := verifyFile(newAuthority(t).trust(), Tree{Root: root, Signature: sig}); !errors.Is(err, ErrSignature) {
		t.Errorf("got %v", err)
	}
}
