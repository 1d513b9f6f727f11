package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Errors of files.
var (
	ErrFull  = errors.New("there is no room to store more")
	ErrInUse = errors.New("a batch that has not ended reads the file")
)

// File describes a stored file.
type File struct {
	ID      string
	Owner   Owner
	Created time.Time
	Expires time.Time // when it is deleted; zero for never
	Name    string    // that the client gave it, which is no path here
	Purpose string
	Bytes   int64
}

// Files stores files and batches in the folder of an archive: their contents in a folder of their own,
// a file each by its ID, and all else in the database. It is safe for concurrent use.
type Files struct {
	db     *sql.DB
	folder string
	quota  *quota

	mu      sync.Mutex // guards what follows
	readers map[string]int
	deleted map[string]Owner // of files that are removed when their last reader has closed them, by ID
}

// draftSuffix is the suffix of files that are being written.
const draftSuffix = ".part"

// Files returns the archive's files. It may be called once. Whatever an earlier process has left behind
// is removed, other than the drafts of batches that have not ended.
func (a *Archive) Files() (*Files, error) {
	s := &Files{
		db:      a.db,
		folder:  filepath.Join(a.folder, "files"),
		quota:   a.quota,
		readers: map[string]int{},
		deleted: map[string]Owner{},
	}
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return nil, fmt.Errorf("open the files of the archive: %w", err)
	}
	if err := s.sweep(context.Background()); err != nil {
		return nil, fmt.Errorf("open the files of the archive: %w", err)
	}
	return s, nil
}

// sweep removes files that belong to nothing, and counts the others.
func (s *Files) sweep(ctx context.Context) error {
	type content struct {
		id    string
		owner Owner
	}
	known, err := rows(ctx, s.db, func(scan func(...any) error) (c content, err error) {
		err = scan(&c.id, &c.owner.Tenant, &c.owner.Client)
		return c, err
	}, "SELECT id, tenant, owner FROM files UNION SELECT output, tenant, owner FROM batches WHERE open UNION "+
		"SELECT errors, tenant, owner FROM batches WHERE open")
	if err != nil {
		return err
	}
	kept := map[string]Owner{}
	for _, file := range known {
		kept[file.id] = file.owner
	}

	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		owner, known := kept[strings.TrimSuffix(entry.Name(), draftSuffix)]
		if !known {
			if err := scrub(filepath.Join(s.folder, entry.Name())); err != nil {
				return err
			}
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		s.quota.found(owner, amount{info.Size(), 1})
	}

	query := fmt.Sprintf("SELECT tenant, owner, COUNT(*) * %d FROM batches GROUP BY tenant, owner", batchBytes)
	if err := s.quota.count(ctx, s.db, query); err != nil {
		return err
	}
	return s.dropOld(ctx)
}

// ids returns the first column of a query's rows.
func (s *Files) ids(ctx context.Context, query string, args ...any) ([]string, error) {
	return rows(ctx, s.db, func(scan func(...any) error) (id string, err error) {
		err = scan(&id)
		return id, err
	}, query, args...)
}

// rows returns the rows of a query, each as scan reads it.
func rows[T any](
	ctx context.Context, db *sql.DB, scan func(func(...any) error) (T, error), query string, args ...any,
) (list []T, err error) {
	found, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()

	for found.Next() {
		row, err := scan(found.Scan)
		if err != nil {
			return nil, err
		}
		list = append(list, row)
	}
	return list, found.Err()
}

// Usage returns how many bytes the archive has, drafts included.
func (s *Files) Usage() int64 { return s.quota.usage().bytes }

// columns are those of a File.
const columns = "id, tenant, owner, created, expires, name, purpose, bytes"

func scanFile(scan func(...any) error) (*File, error) {
	var f File
	var created, expires int64
	err := scan(&f.ID, &f.Owner.Tenant, &f.Owner.Client, &created, &expires, &f.Name, &f.Purpose, &f.Bytes)
	if err != nil {
		return nil, err
	}
	f.Created = time.Unix(created, 0)
	if expires != 0 {
		f.Expires = time.Unix(expires, 0)
	}
	return &f, nil
}

// Get returns a file, or ErrNotFound.
func (s *Files) Get(ctx context.Context, key Key) (*File, error) {
	if err := s.dropOld(ctx); err != nil {
		return nil, err
	}
	return s.find(ctx, key)
}

// find is Get for what may be too old.
func (s *Files) find(ctx context.Context, key Key) (*File, error) {
	row := s.db.QueryRowContext(
		ctx, "SELECT "+columns+" FROM files INDEXED BY files_tenant WHERE tenant = ? AND id = ?", key.Tenant, key.ID)
	f, err := scanFile(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read a file: %w", err)
	}
	return f, nil
}

// FileList says which files are listed.
type FileList struct {
	Tenant  string // whose files they are
	Purpose string // only these; empty for all
	After   string // the file after which the list begins; empty for the first
	Oldest  bool   // the oldest file comes first, and not the newest
	Limit   int
}

// List lists files. The error is ErrNotFound if there is no file to begin after.
func (s *Files) List(ctx context.Context, l FileList) ([]*File, error) {
	if err := s.dropOld(ctx); err != nil {
		return nil, err
	}

	where := "tenant = ? AND (? = '' OR purpose = ?)"
	args := []any{l.Tenant, l.Purpose, l.Purpose}
	more, number, order, err := s.page(ctx, "files", Key{l.Tenant, l.After}, l.Oldest)
	if err != nil {
		return nil, err
	}
	args = append(args, number, l.Limit)

	list, err := rows(ctx, s.db, scanFile,
		"SELECT "+columns+" FROM files WHERE "+where+more+order+" LIMIT ?", args...)
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	return list, nil
}

// page returns the parts of a query for the rows after one: a condition with one parameter, the
// parameter, and the order.
func (s *Files) page(ctx context.Context, table string, after Key, oldest bool) (string, int64, string, error) {
	number := int64(-1)
	if after.ID != "" {
		row := s.db.QueryRowContext(ctx, "SELECT number FROM "+table+" INDEXED BY "+table+"_tenant "+
			"WHERE tenant = ? AND id = ?", after.Tenant, after.ID)
		if err := row.Scan(&number); errors.Is(err, sql.ErrNoRows) {
			return "", 0, "", ErrNotFound
		} else if err != nil {
			return "", 0, "", err
		}
	}
	if oldest {
		return " AND number > ?", number, " ORDER BY number", nil
	}
	if after.ID == "" {
		number = 1<<63 - 1
	}
	return " AND number < ?", number, " ORDER BY number DESC", nil
}

// Delete deletes a file, and overwrites its content. It returns ErrNotFound, or ErrInUse.
func (s *Files) Delete(ctx context.Context, key Key) error {
	f, err := s.find(ctx, key)
	if err != nil {
		return err
	}

	const unused = "id = ? AND id NOT IN (SELECT input FROM batches WHERE open)"
	gone, err := s.ids(ctx, "DELETE FROM files WHERE "+unused+" RETURNING id", key.ID)
	switch {
	case err != nil:
		return fmt.Errorf("delete a file: %w", noRoom(err))
	case len(gone) > 0:
		return s.remove(key.ID, f.Owner)
	}

	// A batch reads it, or somebody else has deleted it.
	if _, err := s.find(ctx, key); err != nil {
		return err
	}
	return ErrInUse
}

// remove removes a content, now or when its last reader has closed it.
func (s *Files) remove(id string, owner Owner) error {
	s.mu.Lock()
	if s.readers[id] > 0 {
		s.deleted[id] = owner
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()

	info, err := os.Stat(s.path(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil // somebody has removed it by hand
	}
	if err == nil {
		err = scrub(s.path(id))
	}
	if err != nil {
		return fmt.Errorf("delete a file: %w", err)
	}
	s.quota.give(owner, amount{info.Size(), 1})
	return nil
}

// dropOld deletes the files whose time is over, other than those that a batch still reads, and the
// batches that ended long ago. A full disk is no error: then they are deleted later.
func (s *Files) dropOld(ctx context.Context) error {
	old, err := rows(ctx, s.db, scanFile, "SELECT "+columns+" FROM files WHERE expires <> 0 AND expires <= ? AND "+
		"id NOT IN (SELECT input FROM batches WHERE open)", time.Now().Unix())
	if err != nil {
		return fmt.Errorf("look for old files: %w", err)
	}
	for _, f := range old {
		err := s.Delete(ctx, Key{f.Owner.Tenant, f.ID})
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrFull) {
			return err
		}
	}

	gone, err := rows(ctx, s.db, scanBatch,
		"DELETE FROM batches WHERE NOT open AND created <= ? RETURNING "+batchColumns, time.Now().Add(-BatchTime).Unix())
	if err = noRoom(err); err != nil && !errors.Is(err, ErrFull) {
		return fmt.Errorf("delete old batches: %w", err)
	}
	for _, b := range gone {
		s.quota.give(b.Owner, amount{bytes: batchBytes})
	}
	return nil
}

func (s *Files) path(id string) string { return filepath.Join(s.folder, id) }

// Content is the content of a file. It must be closed.
type Content struct {
	*os.File
	files *Files
	id    string
}

// Open opens a file for reading, or returns ErrNotFound. Its content stays as it is until it is closed,
// also if it is deleted.
func (s *Files) Open(ctx context.Context, key Key) (*File, *Content, error) {
	id := key.ID
	s.mu.Lock()
	s.readers[id]++ // first, so that nobody overwrites it in between
	s.mu.Unlock()

	f, err := s.Get(ctx, key)
	if err != nil {
		return nil, nil, errors.Join(err, s.release(id))
	}
	opened, err := os.Open(s.path(id))
	if errors.Is(err, os.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read a file: %w", errors.Join(err, s.release(id)))
	}
	return f, &Content{opened, s, id}, nil
}

// Close implements io.Closer.
func (c *Content) Close() error { return errors.Join(c.File.Close(), c.files.release(c.id)) }

// release ends one use of a file, and removes its content if it has been deleted meanwhile.
func (s *Files) release(id string) error {
	s.mu.Lock()
	s.readers[id]--
	last := s.readers[id] == 0
	owner, gone := s.deleted[id]
	gone = gone && last
	if last {
		delete(s.readers, id)
		delete(s.deleted, id)
	}
	s.mu.Unlock()

	if gone {
		return s.remove(id, owner)
	}
	return nil
}

// scrub overwrites a file and removes it. It is removed even if it cannot be overwritten.
func scrub(path string) error {
	overwrite(path)
	return os.Remove(path)
}

func overwrite(path string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return
	}

	zeros := make([]byte, 1<<16)
	for at := int64(0); at < info.Size(); at += int64(len(zeros)) {
		n := min(int64(len(zeros)), info.Size()-at)
		if _, err := f.WriteAt(zeros[:n], at); err != nil {
			return
		}
	}
	_ = f.Sync()
}

// noRoom turns the error of a full disk into ErrFull.
func noRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || isFull(err) {
		return fmt.Errorf("%w: the disk is full", ErrFull)
	}
	return err
}
