package models

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"serve/hub"
)

// identity distinguishes a file's content from later content with the same name, as
// well as possible without reading it.
type identity struct {
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // nanoseconds since 1970
	Changed  int64  `json:"changed"`  // the same, of the file with its owner, mode and names
	Device   uint64 `json:"device"`
	Inode    uint64 `json:"inode"`
}

func identify(name string) (identity, error) {
	info, err := os.Stat(name)
	if err != nil {
		return identity{}, err
	}
	return identityOf(info), nil
}

func identityOf(info fs.FileInfo) identity {
	device, inode, changed := fileID(info)
	return identity{
		Size:     info.Size(),
		Modified: info.ModTime().UnixNano(),
		Changed:  changed,
		Device:   device,
		Inode:    inode,
	}
}

// Identity returns a text that is another one if the files of a model are others now, or have been changed.
func (l *Local) Identity() (string, error) {
	var all []identity
	for _, f := range l.Files() {
		id, err := identify(f.Name)
		if err != nil {
			return "", err
		}
		all = append(all, id)
	}
	b, err := json.Marshal(all)
	return string(b), err
}

// Verify hashes the files of a model and compares the hashes with the Hub's. With
// again false, a file that was verified before and has not been touched since is not
// read. It returns how many files have no known hash.
func (s *Store) Verify(ctx context.Context, l *Local, again bool) (unknown int, err error) {
	for _, f := range l.Files() {
		if f.ETag() == "" {
			unknown++
			continue
		}
		if err := s.verify(ctx, f, again); err != nil {
			return unknown, err
		}
	}
	return unknown, nil
}

func (s *Store) verify(ctx context.Context, f hub.CachedFile, again bool) error {
	file, err := os.Open(f.Name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	id := identityOf(info)
	if !again && s.remembers(f, id) {
		return nil
	}

	sum, err := s.hash(ctx, f, file)
	if err != nil {
		return fmt.Errorf("verify %s: %w", f.Path, err)
	}

	// What was read is what was identified, and it still has the name.
	if after, err := identify(f.Name); err != nil || after != id {
		return &Error{
			Kind: hub.ErrIntegrity,
			Text: f.Path + " changed while it was being verified",
			Todo: "make sure that nothing else writes to the cache",
		}
	}

	if sum != f.ETag() {
		return &Error{
			Kind: hub.ErrIntegrity,
			Text: fmt.Sprintf("%s is damaged: its hash is %s, not %s", f.Path, sum, f.ETag()),
			Todo: "remove it with serve rm and pull it again; if it happens again, check the disk",
		}
	}

	s.remember(f, id)
	return nil
}

func (s *Store) record(f hub.CachedFile) string {
	return filepath.Join(s.Home, "verified", f.ETag()+".json")
}

func (s *Store) remembers(f hub.CachedFile, id identity) bool {
	b, err := os.ReadFile(s.record(f))
	var known identity
	return err == nil && json.Unmarshal(b, &known) == nil && known == id
}

// remember records that a content was verified. If Home cannot be written, the only
// consequence is that the next start hashes it again.
func (s *Store) remember(f hub.CachedFile, id identity) {
	if b, err := json.Marshal(id); err == nil {
		_ = hub.WriteFile(s.record(f), b, 0o600)
	}
}

// hash returns the hash that identifies a content on the Hub.
func (s *Store) hash(ctx context.Context, f hub.CachedFile, file io.Reader) (string, error) {
	h := f.NewHash()
	progress := s.Hub.Progress()
	progress.Start("verifying "+f.Path, f.Size, 0)
	defer progress.Done()
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := file.Read(buf)
		h.Write(buf[:n])
		progress.Add(int64(n))
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", context.Cause(ctx)
}

// Examine reads all files of a model again: it compares their hashes, and reads their headers. It
// returns how many files have no known hash.
func (s *Store) Examine(ctx context.Context, l *Local) (unknown int, err error) {
	unknown, err = s.Verify(ctx, l, true)
	if err != nil {
		return unknown, err
	}
	if _, err := ReadModel(l.Parts()); err != nil {
		return unknown, err
	}
	if l.Projector != nil {
		_, err = ReadHeader(l.Projector.Name)
	}
	return unknown, err
}
