// Package policy decides which models may be served, by a file: by hash, by who has signed them, by license, by
// repository.
package policy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"serve/hub"
	"serve/models"
	"serve/oms"
)

// maxPolicy is the size of the largest file that is read.
const maxPolicy = 4 << 20

// Policy is what a file says. It may be used by several goroutines.
type Policy struct {
	file    string
	rules   []Rule
	signers map[string]signer
	home    string // serve's own folder, where serve sign leaves signatures

	mu     sync.Mutex
	hashes map[string]string // of files on this machine, by their state
}

// Rule admits models for which all holds that it says. What is empty holds.
type Rule struct {
	SHA256       []string `json:"sha256,omitempty"`       // of files: every one that is loaded must be there
	SignedBy     []string `json:"signed_by,omitempty"`    // names of signers, one of which must have signed
	Licenses     []string `json:"licenses,omitempty"`     // one of which the model must have
	Repositories []string `json:"repositories,omitempty"` // patterns of org/name; * stands for a part of one
}

// Trusted is how the signatures of somebody are verified: by a key, or by the authorities of a certificate and a name
// in it. Names of files are relative to the policy's folder.
type Trusted struct {
	PublicKey   string `json:"public_key,omitempty"`
	Authorities string `json:"authorities,omitempty"`
	Identity    string `json:"identity,omitempty"`
}

// signer is a Trusted whose files were read.
type signer struct {
	trust    oms.Trust
	identity string
}

// document is the content of the file.
type document struct {
	Version int                `json:"version"`
	Signers map[string]Trusted `json:"signers"`
	Allow   []Rule             `json:"allow"`
}

// version is the version of the file's format.
const version = 1

// Read reads a policy. Home is serve's own folder.
func Read(file, home string) (*Policy, error) {
	p, err := read(file, home)
	if err != nil {
		return nil, fmt.Errorf("read the policy %s: %w", file, err)
	}
	return p, nil
}

func read(file, home string) (*Policy, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, hub.Cause(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicy+1))
	if err != nil {
		return nil, hub.Cause(err)
	}
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("it is larger than %d MiB", maxPolicy>>20)
	}

	var d document
	if err := decode(text, &d); err != nil {
		return nil, err
	}
	if d.Version != version {
		return nil, fmt.Errorf("its version is %d, and this program knows version %d", d.Version, version)
	}
	p := &Policy{
		file:    file,
		rules:   d.Allow,
		signers: map[string]signer{},
		home:    home,
		hashes:  map[string]string{},
	}
	for name, s := range d.Signers {
		if p.signers[name], err = s.open(filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("signer %q: %w", name, err)
		}
	}
	for i := range p.rules {
		if err := p.rules[i].check(p.signers); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return p, nil
}

// decode reads JSON that has no field twice, and none that is not known.
func decode(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if err := noneTwice(d); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON value")
	}
	d = json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// noneTwice reads a JSON value, and returns an error if an object in it has a field twice.
func noneTwice(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}

	open, ok := token.(json.Delim)
	if !ok {
		return nil
	}

	fields := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return err
			}
			field := strings.ToLower(fmt.Sprint(name)) // as encoding/json compares them
			if fields[field] {
				return fmt.Errorf("the field %q is there twice", name)
			}
			fields[field] = true
		}
		if err := noneTwice(d); err != nil {
			return err
		}
	}

	_, err = d.Token()
	return err
}

// open reads the files of a signer.
func (s Trusted) open(folder string) (signer, error) {
	place := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(folder, name)
	}
	switch {
	case (s.PublicKey == "") == (s.Authorities == ""):
		return signer{}, errors.New("it needs either a public_key or authorities")
	case s.PublicKey != "" && s.Identity != "":
		return signer{}, errors.New("a key has no identity")
	case s.Authorities != "" && s.Identity == "":
		return signer{}, errors.New(
			"it needs the identity in the signer's certificate: its URI, DNS name, e-mail or common name",
		)
	case s.PublicKey != "":
		key, err := oms.ReadPublicKey(place(s.PublicKey))
		return signer{trust: oms.Trust{Keys: []*ecdsa.PublicKey{key}}}, err
	}
	roots, err := oms.ReadRoots(place(s.Authorities))
	return signer{trust: oms.Trust{Roots: roots}, identity: s.Identity}, err
}

var sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check refuses a rule that admits everything, or nothing.
func (r *Rule) check(signers map[string]signer) error {
	if len(r.SHA256)+len(r.SignedBy)+len(r.Licenses)+len(r.Repositories) == 0 {
		return errors.New("it has no condition, and would admit every model")
	}
	for i, sum := range r.SHA256 {
		r.SHA256[i] = strings.ToLower(sum)
		if !sha256Form.MatchString(r.SHA256[i]) {
			return fmt.Errorf("%q is not a SHA-256: 64 hexadecimal digits", sum)
		}
	}
	for _, name := range r.SignedBy {
		if _, ok := signers[name]; !ok {
			return fmt.Errorf("there is no signer %q", name)
		}
	}
	for _, pattern := range r.Repositories {
		if _, err := path.Match(pattern, "org/name"); err != nil || strings.Count(pattern, "/") != 1 {
			return fmt.Errorf("%q is not a pattern of a repository, such as org/name or org/*", pattern)
		}
	}
	return nil
}

// errLater means that a rule cannot be decided before the files are on this machine.
var errLater = errors.New("its files are not on this machine yet")

// Admit decides about a model. It is a models.Admission.
func (p *Policy) Admit(ctx context.Context, c *models.Candidate) error {
	if len(c.Files) == 0 {
		return fmt.Errorf("%w: %s has no files", models.ErrRefused, c.Name)
	}

	subject := &subject{Policy: p, Candidate: c, signatures: map[string]error{}}
	var reasons []string
	for i := range p.rules {
		err := subject.obeys(ctx, &p.rules[i])
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil || errors.Is(err, errLater) || errors.Is(err, oms.ErrContentNeeded) && c.Arriving {
			return nil // what arrives is asked about again when it is there
		}
		reasons = append(reasons, fmt.Sprintf("rule %d: %v", i+1, err))
	}

	if len(reasons) == 0 {
		reasons = []string{"it admits none"}
	}
	return &models.Error{
		Kind: models.ErrRefused,
		Text: fmt.Sprintf("the policy %s does not admit %s: %s", p.file, c.Name, strings.Join(reasons, "; ")),
		Todo: "serve sign signs a model that you have examined; who keeps the policy can add a rule",
	}
}

// subject is a model about which is decided.
type subject struct {
	*Policy
	*models.Candidate
	signatures map[string]error // by signer: nil if it has signed
}

// obeys returns why a rule does not admit the model.
func (s *subject) obeys(ctx context.Context, r *Rule) error {
	matches := func(pattern string) bool {
		match, _ := path.Match(pattern, s.Repo) // check has compiled it
		return match
	}
	if len(r.Repositories) > 0 && !slices.ContainsFunc(r.Repositories, matches) {
		if s.Repo == "" {
			return errors.New("it does not come from a repository")
		}
		return fmt.Errorf("its repository is %s", s.Repo)
	}
	same := func(id string) bool { return strings.EqualFold(id, s.License) }
	if len(r.Licenses) > 0 && !slices.ContainsFunc(r.Licenses, same) {
		if s.License == "" {
			return errors.New("its license is not known")
		}
		return fmt.Errorf("its license is %s", s.License)
	}
	if err := s.hashed(ctx, r.SHA256); err != nil {
		return err
	}
	return s.signed(ctx, r.SignedBy)
}

// hashed returns an error unless every file has one of the hashes.
func (s *subject) hashed(ctx context.Context, hashes []string) error {
	if len(hashes) == 0 {
		return nil
	}
	for _, f := range s.Files {
		sum, err := s.hash(ctx, f)
		if err != nil {
			return err
		}
		if !slices.Contains(hashes, sum) {
			return fmt.Errorf("the hash of %s is %s", f.Path, sum)
		}
	}
	return nil
}

// hash returns the hash of a file, which was verified if it is known.
func (s *subject) hash(ctx context.Context, f models.CandidateFile) (string, error) {
	if f.SHA256 != "" {
		return f.SHA256, nil
	}

	if f.Place == "" {
		return "", errLater
	}
	if sum := s.known(f.State); sum != "" {
		return sum, nil
	}

	file, err := os.Open(f.Place)
	if err != nil {
		return "", err
	}

	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}

	if f.State != "" && models.State(info) != f.State {
		return "", fmt.Errorf("%s has changed", f.Path)
	}
	sum, err := oms.Hash(ctx, file)
	if err == nil && f.State != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hashes[f.State] = sum
	}

	return sum, err
}

func (p *Policy) known(state string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hashes[state]
}

// signed returns an error unless one of the signers has signed every file.
func (s *subject) signed(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	var reasons []string
	for _, name := range names {
		err, known := s.signatures[name]
		if !known {
			err = s.signedBy(ctx, s.signers[name])
			s.signatures[name] = err
		}
		if err == nil || errors.Is(err, errLater) || errors.Is(err, oms.ErrContentNeeded) {
			return err
		}
		reasons = append(reasons, fmt.Sprintf("it is not signed by %s (%v)", name, err))
	}
	return errors.New(strings.Join(reasons, ", "))
}

// signedBy looks for a signature of one signer.
func (s *subject) signedBy(ctx context.Context, by signer) error {
	contents, err := s.contents(ctx)
	if err != nil {
		return err
	}
	places, err := s.places(ctx)
	if err != nil {
		return err
	}
	_, err = by.find(ctx, places, contents)
	return err
}

// errUnsigned means that there is no signature.
var errUnsigned = fmt.Errorf("%w: there is none", oms.ErrSignature)

// find returns who has signed the contents, by the first signature that holds.
func (by signer) find(ctx context.Context, places []string, contents []oms.Content) (*oms.Signer, error) {
	failed := errUnsigned
	for _, place := range places {
		who, err := by.verify(ctx, place, contents)
		if err == nil || errors.Is(err, oms.ErrContentNeeded) {
			return who, err
		}
		if !errors.Is(err, os.ErrNotExist) {
			failed = fmt.Errorf("%s: %w", place, err)
		}
	}
	return nil, failed
}

// verify returns an error unless a file is a signature of the signer, of these contents.
func (by signer) verify(ctx context.Context, place string, contents []oms.Content) (*oms.Signer, error) {
	signature, err := oms.ReadFile(place)
	if err != nil {
		return nil, err
	}
	m, who, err := signature.Verify(by.trust)
	if err != nil {
		return nil, err
	}
	if err := who.Is(by.identity); err != nil {
		return nil, err
	}
	return who, m.Check(ctx, contents)
}

// SignedBy returns who has signed a model on this machine, among those that are trusted, and an error if nobody has. An
// identity is a name that must be in the signer's certificate; "" for any. The signature is looked for where it may be
// unless its place is given.
func SignedBy(
	ctx context.Context, c *models.Candidate, home string, trust oms.Trust, identity, place string,
) (*oms.Signer, error) {
	p := &Policy{home: home, hashes: map[string]string{}}
	s := &subject{Policy: p, Candidate: c}
	contents, err := s.contents(ctx)
	if err != nil {
		return nil, err
	}
	by := signer{trust: trust, identity: identity}
	if place != "" {
		return by.verify(ctx, place, contents)
	}
	places, err := s.places(ctx)
	if err != nil {
		return nil, err
	}
	return by.find(ctx, places, contents)
}

// contents returns the files as they are signed.
func (s *subject) contents(ctx context.Context) ([]oms.Content, error) {
	var list []oms.Content
	for _, f := range s.Files {
		sum, err := s.hash(ctx, f)
		if err != nil {
			return nil, err
		}
		c := oms.Content{Name: f.Path, SHA256: sum}
		if f.Place != "" {
			c.Open = func() (io.ReadCloser, error) { return os.Open(f.Place) }
		}
		list = append(list, c)
	}
	return list, nil
}

// places returns where the model's signature may be: where serve sign has left it, in the repository, beside the file.
func (s *subject) places(ctx context.Context) ([]string, error) {
	first, err := s.hash(ctx, s.Files[0])
	if err != nil {
		return nil, err
	}
	list := []string{SignatureFile(s.home, first)}
	for _, f := range s.Texts {
		if models.IsSignature(f.Path) || strings.HasSuffix(f.Path, ".sig") {
			list = append(list, f.Place)
		}
	}
	return list, nil
}

// SignatureFile returns where the signature of a model is kept in serve's own folder, by the hash of its first file.
func SignatureFile(home, sha256 string) string {
	return filepath.Join(home, "signatures", sha256+".sig")
}
