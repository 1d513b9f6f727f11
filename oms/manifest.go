package oms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The two ways in which files become resources, and the only hash that serve computes.
const (
	methodFiles  = "files"
	methodShards = "shards"
	hashSHA256   = "sha256"
)

// maxResources is how many resources a manifest may have.
const maxResources = 1 << 20

// Manifest is what is signed of a model.
type Manifest struct {
	Name string // of the model, for readers: it is not compared
	Serialization
	Resources []Resource

	digests map[string]string // by the resources' names
}

// Content is a file of a model.
type Content struct {
	Name   string // as it is signed: its path in the model's folder, with slashes
	SHA256 string // if it is known and was compared with the content; "" to compute it
	// Open returns the content. It is nil if there is none yet, but SHA256 is known.
	Open func() (io.ReadCloser, error)
}

// ErrContentNeeded means that hashes of whole files are not enough, since parts of them are signed.
var ErrContentNeeded = errors.New("parts of files are signed, which are not on this machine")

// sum returns the hash of the next bytes, at most n, and how many they were.
func sum(ctx context.Context, r io.Reader, n int64) (string, int64, error) {
	h := sha256.New()
	read, err := io.CopyBuffer(h, &contextReader{ctx, io.LimitReader(r, n)}, make([]byte, 1<<20))
	return hex.EncodeToString(h.Sum(nil)), read, err
}

// Hash returns the SHA-256 of all that can be read.
func Hash(ctx context.Context, r io.Reader) (string, error) {
	digest, _, err := sum(ctx, r, math.MaxInt64)
	return digest, err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// resources computes the resources of a file.
func (s *Serialization) resources(ctx context.Context, c Content) ([]Resource, error) {
	if s.Method == methodFiles && c.SHA256 != "" {
		return []Resource{{Name: c.Name, Algorithm: hashSHA256, Digest: c.SHA256}}, nil
	}
	if c.Open == nil {
		return nil, fmt.Errorf("%s: %w", c.Name, ErrContentNeeded)
	}
	r, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()

	if s.Method == methodFiles {
		digest, err := Hash(ctx, r)
		return []Resource{{Name: c.Name, Algorithm: hashSHA256, Digest: digest}}, err
	}
	var list []Resource
	for start := int64(0); ; {
		digest, n, err := sum(ctx, r, int64(s.ShardSize))
		if err != nil {
			return nil, err
		}
		if n > 0 {
			name := fmt.Sprintf("%s:%d:%d", c.Name, start, start+n)
			list = append(list, Resource{Name: name, Algorithm: hashSHA256, Digest: digest})
		}
		if n < int64(s.ShardSize) {
			return list, nil
		}
		start += n
	}
}

// NewManifest hashes the files of a model. Their order does not matter.
func NewManifest(ctx context.Context, name string, s Serialization, files []Content) (*Manifest, error) {
	s.HashType = hashSHA256
	s.Method = methodFiles
	if s.ShardSize > 0 {
		s.Method = methodShards
	}
	m := &Manifest{Name: name, Serialization: s}
	for _, c := range files {
		if err := checkName(c.Name); err != nil {
			return nil, err
		}
		list, err := s.resources(ctx, c)
		if err != nil {
			return nil, err
		}
		m.Resources = append(m.Resources, list...)
	}
	if len(m.Resources) == 0 {
		return nil, errors.New("there is nothing to sign")
	}
	slices.SortFunc(m.Resources, func(a, b Resource) int { return strings.Compare(a.Name, b.Name) })
	return m, m.index()
}

// statement returns the statement that says what a manifest does.
func (m *Manifest) statement() *statement {
	return &statement{
		Type:          statementType,
		Subject:       []subject{{Name: m.Name, Digest: map[string]string{hashSHA256: m.root()}}},
		PredicateType: predicateType,
		Predicate:     predicate{Resources: m.Resources, Serialization: &m.Serialization},
	}
}

// root returns the hash of all hashes, which stands for the model.
func (m *Manifest) root() string {
	h := sha256.New()
	for _, r := range m.Resources {
		b, _ := hex.DecodeString(r.Digest) // index has checked it
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// readStatement reads what was signed.
func readStatement(payload []byte) (*Manifest, error) {
	var s statement
	if err := unmarshal(payload, &s); err != nil {
		return nil, fmt.Errorf("what is signed is not a statement: %w", err)
	}
	switch {
	case s.Type != statementType:
		return nil, fmt.Errorf("what is signed is of type %q, not %s", s.Type, statementType)
	case s.PredicateType == olderType:
		return nil, errors.New("it has the format of 2024, before version 1.0; the model must be signed again")
	case s.PredicateType != predicateType:
		return nil, fmt.Errorf("what is signed is %q, not %s", s.PredicateType, predicateType)
	case len(s.Subject) != 1:
		return nil, fmt.Errorf("it is about %d models", len(s.Subject))
	case s.Predicate.Serialization == nil:
		return nil, errors.New("it does not say how the files were hashed")
	}

	m := &Manifest{
		Name:          s.Subject[0].Name,
		Serialization: *s.Predicate.Serialization,
		Resources:     s.Predicate.Resources,
	}
	if err := m.Serialization.check(); err != nil {
		return nil, err
	}
	if err := m.index(); err != nil {
		return nil, err
	}
	if m.root() != s.Subject[0].Digest[hashSHA256] {
		return nil, errors.New("its hash of the model is not that of its files")
	}
	return m, nil
}

// check refuses what cannot be computed.
func (s *Serialization) check() error {
	switch {
	case s.HashType != hashSHA256:
		return fmt.Errorf("its hashes are %q, and serve computes %s alone", s.HashType, hashSHA256)
	case s.Method != methodFiles && s.Method != methodShards:
		return fmt.Errorf("its files were hashed by the method %q, which serve does not have", s.Method)
	case s.Method == methodShards && s.ShardSize <= 0:
		return errors.New("its files were hashed in parts of no size")
	case s.Method == methodFiles && s.ShardSize != 0:
		return errors.New("its files were hashed as wholes, in parts")
	}
	return nil
}

// index checks all resources, and finds them by name.
func (m *Manifest) index() error {
	if n := len(m.Resources); n == 0 || n > maxResources {
		return fmt.Errorf("%d files are signed", n)
	}
	m.digests = make(map[string]string, len(m.Resources))
	for _, r := range m.Resources {
		if err := checkName(m.file(r.Name)); err != nil {
			return err
		}
		if _, double := m.digests[r.Name]; double {
			return fmt.Errorf("%q is signed twice", r.Name)
		}
		b, err := hex.DecodeString(r.Digest)
		// The reference implementation names the parts' size in it.
		algorithm, _, _ := strings.Cut(r.Algorithm, "-sharded-")
		if algorithm != hashSHA256 || err != nil || len(b) != sha256.Size {
			return fmt.Errorf("the hash of %q is no SHA-256", r.Name)
		}
		m.digests[r.Name] = strings.ToLower(r.Digest)
	}
	return nil
}

// file returns the file of which a resource is, or is a part.
func (m *Manifest) file(resource string) string {
	if m.Method != methodShards {
		return resource
	}
	rest := resource
	for range 2 { // its end, its begin; a file's name may have colons of its own
		i := strings.LastIndexByte(rest, ':')
		if i < 0 {
			return ""
		}
		if _, err := strconv.ParseInt(rest[i+1:], 10, 64); err != nil {
			return ""
		}
		rest = rest[:i]
	}
	return rest
}

// single is the name that OMS's reference implementation gives to a model that is one file.
const single = "."

// checkName refuses names of files that are not the shortest ones within a folder.
func checkName(name string) error {
	if name == single {
		return nil
	}
	bad := name == "" || path.IsAbs(name) || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../")
	if bad || !utf8.ValidString(name) {
		return fmt.Errorf("%q cannot be the name of a file in a model", name)
	}
	return nil
}

// Files returns the names of all files that are signed.
func (m *Manifest) Files() []string {
	set := map[string]bool{}
	for _, r := range m.Resources {
		set[m.file(r.Name)] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Digest returns the hash of a file that was signed as a whole.
func (m *Manifest) Digest(name string) (string, bool) {
	digest, ok := m.digests[name]
	return digest, ok
}

// Check compares files with what is signed of them: each must be signed, and be what was signed. A manifest may
// be of more files: of a repository of which some were downloaded.
func (m *Manifest) Check(ctx context.Context, files []Content) error {
	_, err := m.check(ctx, files)
	return err
}

// check compares files, and returns the names of the resources that they are.
func (m *Manifest) check(ctx context.Context, files []Content) (map[string]bool, error) {
	seen := map[string]bool{}
	for _, c := range files {
		if len(files) == 1 && slices.Equal(m.Files(), []string{single}) {
			c.Name = single
		}
		list, err := m.resources(ctx, c)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			digest, signed := m.digests[r.Name]
			if !signed {
				return nil, fmt.Errorf("%w: %q is not signed", ErrSignature, r.Name)
			}
			if digest != r.Digest {
				return nil, fmt.Errorf("%w: %q is not what was signed: its hash is %s, not %s",
					ErrSignature, r.Name, r.Digest, digest)
			}
			seen[r.Name] = true
		}
		if m.Method == methodShards {
			// A file that was cut off has no wrong part.
			for name := range m.digests {
				if m.file(name) == c.Name && !seen[name] {
					return nil, fmt.Errorf("%w: %q is signed and missing", ErrSignature, name)
				}
			}
		}
	}

	return seen, nil
}
