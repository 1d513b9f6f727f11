package audit

import (
	"bytes"
	"crypto/fips140"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
)

// A capture is a file with the texts of one request, encrypted to public keys in age's format (age-encryption.org/v1):
// who has a private key reads it with any program for that format. The record of the request's end has its name and its
// digest. Captures lie apart from the log, since they are kept for another time.

// captureSuffix is that of a capture's name: TIME-ID.age, with the time at which it was begun.
const captureSuffix = ".age"

// captureTime is the form of the time in a capture's name, in UTC.
const captureTime = "20060102T150405.000000"

// Captured says which file has the texts of a request.
type Captured struct {
	File   string `json:"file,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // of the file, which is encrypted
	Bytes  int64  `json:"bytes,omitempty"`
	// Missing is why there is no such file, where work goes on all the same.
	Missing string `json:"missing,omitempty"`
}

// ParseRecipients reads public keys of age: one, or the name of a file that has one a line.
func ParseRecipients(given string) ([]age.Recipient, error) {
	text := given
	if !strings.HasPrefix(given, "age1") {
		file, err := readKey(given)
		if err != nil {
			return nil, err
		}
		text = file
	}
	if strings.Contains(strings.ToUpper(text), "AGE-SECRET-KEY-") {
		return nil, fmt.Errorf("%w: %s has a private key, which is kept where captures are read; age-keygen -y prints its "+
			"public key", ErrKey, given)
	}
	list, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return list, nil
}

// Captures is a folder of captures that are written. It is safe for concurrent use.
type Captures struct {
	disk       disk
	recipients []age.Recipient
	continues  bool

	mu      sync.Mutex
	failing error     // of the last one
	tried   time.Time // when that was
}

// OpenCaptures opens a folder, which it creates, for captures that the private keys of recipients decrypt. If it
// continues, work goes on while none can be written.
func OpenCaptures(dir string, recipients []age.Recipient, continues bool) (*Captures, error) {
	if fips140.Enabled() {
		return nil, fmt.Errorf("%w: in FIPS 140-3 mode nothing is captured: age's ciphers (X25519, ChaCha20-Poly1305) are "+
			"not approved", ErrKey)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of captures: %w", err)
	}
	c := &Captures{disk: osDisk(dir), recipients: recipients, continues: continues}
	if err := c.probe(); err != nil {
		return nil, fmt.Errorf("write into the folder of captures: %w", err)
	}
	return c, nil
}

// Continues reports whether work goes on while nothing can be captured.
func (c *Captures) Continues() bool { return c.continues }

// Failing returns why captures cannot be written; nil while they can. From time to time it tries.
func (c *Captures) Failing() error {
	c.mu.Lock()
	retry := c.failing != nil && time.Since(c.tried) >= probeEvery
	if retry {
		c.tried = time.Now()
	}
	failing := c.failing
	c.mu.Unlock()
	if retry {
		failing = c.note(c.probe())
	}
	return failing
}

// note remembers whether a capture was written.
func (c *Captures) note(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = err
	c.tried = time.Now()
	return err
}

// probe writes and removes a file.
func (c *Captures) probe() error {
	const name = "probe" + newSuffix
	f, err := c.disk.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, 4096), 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), c.disk.Remove(name))
}

// Capture is one that is being written. It is not safe for concurrent use.
type Capture struct {
	all       *Captures
	name      string
	file      file
	offset    int64
	sum       hash.Hash
	encrypted io.WriteCloser
	err       error // of the first write that failed
	ended     bool
}

// Begin begins the capture of a request. The caller ends it with Seal or Discard.
func (c *Captures) Begin(id string) (*Capture, error) {
	k := &Capture{all: c, name: now().Format(captureTime) + "-" + id + captureSuffix, sum: sha256.New()}
	err := k.begin()
	if err != nil {
		k.Discard()
		return nil, c.note(fmt.Errorf("begin a capture: %w", err))
	}
	return k, nil
}

func (k *Capture) begin() (err error) {
	if k.file, err = k.all.disk.Create(k.name); err != nil {
		return err
	}
	k.encrypted, err = age.Encrypt(appender{k}, k.all.recipients...)
	return err
}

// appender writes what is encrypted.
type appender struct{ *Capture }

// Write implements io.Writer.
func (a appender) Write(p []byte) (int, error) {
	n, err := a.file.WriteAt(p, a.offset)
	a.sum.Write(p[:n])
	a.offset += int64(n)
	return n, err
}

// Write adds to the capture. It reports errors at its end, by Seal.
func (k *Capture) Write(p []byte) (int, error) {
	if k.err == nil && !k.ended {
		_, k.err = k.encrypted.Write(p)
	}
	return len(p), nil
}

// Seal ends the capture and returns when it is durable. If it cannot be, there is none.
func (k *Capture) Seal() (*Captured, error) {
	if k.ended {
		return nil, errors.New("a capture is sealed twice")
	}
	k.ended = true
	err := k.err
	if err == nil {
		err = k.encrypted.Close()
	}
	if err == nil {
		err = k.file.Sync()
	}
	err = errors.Join(err, k.file.Close())
	if err == nil {
		err = k.all.disk.Sync()
	}
	if err != nil {
		_ = k.all.disk.Remove(k.name)
		return nil, k.all.note(fmt.Errorf("write a capture: %w", err))
	}
	_ = k.all.note(nil)
	return &Captured{File: k.name, SHA256: hex.EncodeToString(k.sum.Sum(nil)), Bytes: k.offset}, nil
}

// Discard removes the capture, also one that is sealed.
func (k *Capture) Discard() {
	if k.file != nil && !k.ended {
		_ = k.file.Close()
	}
	k.ended = true
	if k.file != nil {
		_ = k.all.disk.Remove(k.name)
	}
}

// CapturesFolder is the folder of captures in that of their log, by default.
const CapturesFolder = "captures"

// OpenCaptureOf decrypts the capture of a request, whose last record is given.
func OpenCaptureOf(r *Record, dir string, identities ...age.Identity) (io.ReadCloser, error) {
	switch {
	case r.Capture == nil:
		return nil, fmt.Errorf("%w of the request %s: the server had no --capture", ErrNoCapture, r.ID)
	case r.Capture.Missing != "":
		return nil, fmt.Errorf("%w of the request %s: %s", ErrNoCapture, r.ID, r.Capture.Missing)
	}
	return OpenCapture(dir, r.Capture, identities...)
}

// OpenCapture decrypts the capture that a record has, after it has compared the file with it.
func OpenCapture(dir string, of *Captured, identities ...age.Identity) (io.ReadCloser, error) {
	return openCapture(osDisk(dir), of, identities)
}

func openCapture(d disk, of *Captured, identities []age.Identity) (io.ReadCloser, error) {
	if _, ok := capturedAt(of.File); !ok {
		return nil, fmt.Errorf("%w: %q is not the name of a capture", ErrProof, of.File)
	}
	f, err := d.Open(of.File)
	if err != nil {
		return nil, fmt.Errorf("open the capture: %w", err)
	}
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read the capture: %w", err)
	}
	if size != of.Bytes || hex.EncodeToString(sum.Sum(nil)) != of.SHA256 {
		return nil, fmt.Errorf("%w: the capture %s is not the one of the record: it was changed or replaced",
			ErrProof, of.File)
	}

	if f, err = d.Open(of.File); err != nil {
		return nil, fmt.Errorf("open the capture: %w", err)
	}
	// What is decrypted is compared once more: the file could have been replaced in between.
	again := sha256.New()
	plain, err := age.Decrypt(io.TeeReader(f, again), identities...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		err = fmt.Errorf("%w: the capture is encrypted to other keys", ErrKey)
	case err != nil:
		err = fmt.Errorf("%w: decrypt the capture: %w", ErrProof, err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &captureReader{plain: plain, sum: again, want: of.SHA256, Closer: f}, nil
}

// captureReader reads what is in a capture.
type captureReader struct {
	plain io.Reader
	sum   hash.Hash // of the file, as far as it was read
	want  string
	io.Closer
}

// Read implements io.Reader.
func (r *captureReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	switch {
	case errors.Is(err, io.EOF) && hex.EncodeToString(r.sum.Sum(nil)) != r.want:
		err = fmt.Errorf("%w: the capture was replaced while it was read", ErrProof)
	case err != nil && !errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: decrypt the capture: %w", ErrProof, err)
	}
	return n, err
}

// ReadIdentities reads a file with private keys of age, which nobody else may read.
func ReadIdentities(path string) ([]age.Identity, error) {
	text, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	list, err := age.ParseIdentities(bytes.NewReader([]byte(text)))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, path, err)
	}
	return list, nil
}

// capturedAt returns when a capture was begun, by the name of its file.
func capturedAt(name string) (time.Time, bool) {
	at, rest, ok := strings.Cut(name, "-")
	t, err := time.Parse(captureTime, at)
	id, isCapture := strings.CutSuffix(rest, captureSuffix)
	return t, ok && err == nil && isCapture && id != "" && filepath.Base(name) == name
}

// PruneCaptures removes the captures in a folder that were begun before a time, and returns how many there were. A
// server may write others meanwhile.
func PruneCaptures(dir string, before time.Time) (count int, err error) {
	return pruneCaptures(osDisk(dir), before)
}

// ErrNoCapture means that a record has no capture.
var ErrNoCapture = errors.New("nothing was captured")

// End returns the record of a request's end in the log of a folder, which the log's key has signed.
func End(dir, key, id string) (*Record, error) {
	v, err := verifier(dir, key)
	if err != nil {
		return nil, err
	}
	proofs, err := prove(osDisk(dir), v, id)
	if err != nil {
		return nil, err
	}
	for _, p := range proofs {
		r, _, err := CheckProof(p, v)
		if err != nil {
			return nil, err
		}
		if r.Kind == RequestEnd {
			return r, nil
		}
	}
	return nil, fmt.Errorf("the request %s has no end: it was lost, or nothing was computed for it", id)
}

func pruneCaptures(d disk, before time.Time) (count int, err error) {
	names, err := d.Names()
	if err != nil {
		return 0, fmt.Errorf("read the folder of captures: %w", err)
	}
	for _, name := range names {
		if at, ok := capturedAt(name); !ok || !at.Before(before) {
			continue
		}
		if err := d.Remove(name); err != nil {
			return count, fmt.Errorf("remove a capture: %w", err)
		}
		count++
	}
	if count == 0 {
		return 0, nil
	}
	return count, d.Sync()
}

// prunedCaptures is what the name of a file in a log's folder begins with that says that captures were pruned. Who
// writes the log next records it.
const prunedCaptures = "captures-pruned-"

// NoteCapturesPruned has the log in a folder record that captures were pruned: by the server that writes it, or here.
func NoteCapturesPruned(dir string, count int, before time.Time) error {
	text, err := json.Marshal(&Record{
		Kind:   CapturesPruned,
		Count:  int64(count),
		Detail: map[string]string{"user": self(), "before": before.UTC().Format(time.RFC3339)},
	})
	if err != nil {
		return err
	}
	name := filepath.Join(dir, prunedCaptures+now().Format(captureTime))
	if err := create(name+newSuffix, string(text), 0o600); err != nil {
		return err
	}
	if err := os.Rename(name+newSuffix, name); err != nil {
		return err
	}
	l, err := Open(dir, Options{})
	if err != nil {
		return nil // a server writes it
	}
	return l.Close()
}

// noteCaptures records that captures were pruned, if another process has left word of it.
func (l *Log) noteCaptures() {
	names, err := l.disk.Names()
	if err != nil {
		return
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prunedCaptures) || strings.HasSuffix(name, newSuffix) {
			continue
		}
		f, err := l.disk.Open(name)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(f, maxLine))
		f.Close()
		r := new(Record)
		if err == nil && json.Unmarshal(text, r) == nil && l.disk.Remove(name) == nil {
			l.Note(&Record{Kind: CapturesPruned, Count: r.Count, Detail: r.Detail})
		}
	}
}
