package archive

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Draft is a file that is being written. Nobody sees it until it is kept. Close must be called.
type Draft struct {
	File  File // what is known of it when it is kept; its ID, owner and size are set
	files *Files
	f     *os.File
	kept  bool
}

// Draft begins a file of a client, or goes on with the draft that a batch has left. It returns ErrFull if there
// are too many files.
func (s *Files) Draft(id string, owner Owner) (*Draft, error) {
	path := s.path(id) + draftSuffix
	// It may have got its name, and its process may have ended before anybody knew.
	if err := os.Rename(s.path(id), path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("write a file: %w", err)
	}
	_, err := os.Stat(path)
	begun := err == nil // and counted
	if !begun {
		if err := s.quota.take(owner, amount{files: 1}); err != nil {
			return nil, err
		}
	}

	d, err := s.openDraft(id, path)
	if err != nil {
		if !begun {
			s.quota.give(owner, amount{files: 1})
		}
		return nil, fmt.Errorf("write a file: %w", noRoom(err))
	}
	d.File.Owner = owner
	return d, nil
}

func (s *Files) openDraft(id, path string) (*Draft, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Draft{File: File{ID: id, Bytes: info.Size()}, files: s, f: f}, nil
}

// Write appends to the draft: all of p, or nothing.
func (d *Draft) Write(p []byte) (int, error) {
	n := amount{bytes: int64(len(p))}
	if err := d.files.quota.take(d.File.Owner, n); err != nil {
		return 0, err
	}
	if _, err := d.f.WriteAt(p, d.File.Bytes); err != nil {
		d.files.quota.give(d.File.Owner, n)
		return 0, errors.Join(fmt.Errorf("write a file: %w", noRoom(err)), d.f.Truncate(d.File.Bytes))
	}
	d.File.Bytes += n.bytes
	return len(p), nil
}

// Sync returns when what was written is on the disk.
func (d *Draft) Sync() error {
	if err := d.f.Sync(); err != nil {
		return fmt.Errorf("write a file: %w", noRoom(err))
	}
	return nil
}

// Content returns what was written so far.
func (d *Draft) Content() io.Reader { return io.NewSectionReader(d.f, 0, d.File.Bytes) }

// Truncate drops what is after the first bytes of the draft.
func (d *Draft) Truncate(bytes int64) error {
	if err := d.f.Truncate(bytes); err != nil {
		return fmt.Errorf("write a file: %w", err)
	}
	d.files.quota.give(d.File.Owner, amount{bytes: d.File.Bytes - bytes})
	d.File.Bytes = bytes
	return nil
}

// Discard removes the draft, unless it is kept, and closes it.
func (d *Draft) Discard() error {
	if d.kept {
		return d.f.Close()
	}
	path := d.files.path(d.File.ID) + draftSuffix
	err := errors.Join(d.f.Close(), scrub(path))
	d.files.quota.give(d.File.Owner, amount{d.File.Bytes, 1})
	return err
}

// Close closes the draft, and leaves it for a later process if a batch that has not ended has it.
func (d *Draft) Close() error { return d.f.Close() }

// seal gives a draft the name of a file.
func (d *Draft) seal() error {
	if err := d.Sync(); err != nil {
		return err
	}
	path := d.files.path(d.File.ID)
	if err := os.Rename(path+draftSuffix, path); err != nil {
		return fmt.Errorf("write a file: %w", err)
	}
	folder, err := os.Open(d.files.folder)
	if err != nil {
		return fmt.Errorf("write a file: %w", err)
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil {
		return fmt.Errorf("write a file: %w", noRoom(err))
	}
	return nil
}

// unseal makes a file that nobody knows of a draft again.
func (d *Draft) unseal() {
	path := d.files.path(d.File.ID)
	_ = os.Rename(path, path+draftSuffix)
}

// BatchTime is how long a batch is kept after it was created, if it has ended.
const BatchTime = 30 * 24 * time.Hour

// batchBytes is about what a batch takes besides its files, in bytes.
const batchBytes = 16 << 10

// Batch is the state of a batch.
type Batch struct {
	ID      string
	Owner   Owner
	Created time.Time
	Input   string // ID of the file that it reads, which is kept as long as the batch is open
	Output  string // ID of the draft or file of its results
	Errors  string // ID of the draft or file of its errors
	Open    bool   // it has not ended
	Body    json.RawMessage
}

// Keep makes drafts files, and stores a batch, if there is one, at the same time: all of it or nothing.
func (s *Files) Keep(ctx context.Context, b *Batch, drafts ...*Draft) error {
	for i, d := range drafts {
		if err := d.seal(); err != nil {
			for _, sealed := range drafts[:i+1] { // this one may have its name already
				sealed.unseal()
			}
			return err
		}
	}
	if err := s.countBatch(ctx, b, func() error { return s.record(ctx, b, drafts) }); err != nil {
		for _, d := range drafts {
			d.unseal()
		}
		return err
	}
	for _, d := range drafts {
		d.kept = true
	}
	return nil
}

// countBatch has a batch stored, and counts it if it is new.
func (s *Files) countBatch(ctx context.Context, b *Batch, store func() error) error {
	if b == nil {
		return store()
	}
	_, err := s.Batch(ctx, Key{b.Owner.Tenant, b.ID})
	if !errors.Is(err, ErrNotFound) {
		if err == nil {
			err = store()
		}
		return err
	}

	if err := s.quota.take(b.Owner, amount{bytes: batchBytes}); err != nil {
		return fmt.Errorf("store a batch: %w", err)
	}
	err = store()
	if err != nil {
		s.quota.give(b.Owner, amount{bytes: batchBytes})
	}
	return err
}

// record writes the rows of files and of a batch.
func (s *Files) record(ctx context.Context, b *Batch, drafts []*Draft) error {
	if err := s.dropOld(ctx); err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("store a file: %w", noRoom(err))
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it has nothing to do

	for _, d := range drafts {
		f := &d.File
		expires := int64(0)
		if !f.Expires.IsZero() {
			expires = f.Expires.Unix()
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO files ("+columns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			f.ID, f.Owner.Tenant, f.Owner.Client, f.Created.Unix(), expires, f.Name, f.Purpose, f.Bytes)
		if err != nil {
			return fmt.Errorf("store a file: %w", noRoom(err))
		}
	}
	if b != nil {
		_, err := tx.ExecContext(ctx, "INSERT INTO batches ("+batchColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "+
			"ON CONFLICT (id) DO UPDATE SET open = excluded.open, body = excluded.body",
			b.ID, b.Owner.Tenant, b.Owner.Client, b.Created.Unix(), b.Input, b.Output, b.Errors, b.Open, []byte(b.Body))
		if err != nil {
			return fmt.Errorf("store a batch: %w", noRoom(err))
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("store a file: %w", noRoom(err))
	}
	return nil
}

// batchColumns are those of a Batch.
const batchColumns = "id, tenant, owner, created, input, output, errors, open, body"

func scanBatch(scan func(...any) error) (*Batch, error) {
	var b Batch
	var created int64
	err := scan(&b.ID, &b.Owner.Tenant, &b.Owner.Client, &created, &b.Input, &b.Output, &b.Errors, &b.Open,
		(*[]byte)(&b.Body))
	if err != nil {
		return nil, err
	}
	b.Created = time.Unix(created, 0)
	return &b, nil
}

// Batch returns a batch, or ErrNotFound.
func (s *Files) Batch(ctx context.Context, key Key) (*Batch, error) {
	row := s.db.QueryRowContext(ctx, "SELECT "+batchColumns+" FROM batches INDEXED BY batches_tenant "+
		"WHERE tenant = ? AND id = ?", key.Tenant, key.ID)
	b, err := scanBatch(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read a batch: %w", err)
	}
	return b, nil
}

// Batches lists a tenant's batches, the newest first, from the one after the given ID on. The error is ErrNotFound
// if there is no such batch.
func (s *Files) Batches(ctx context.Context, after Key, limit int) ([]*Batch, error) {
	more, number, order, err := s.page(ctx, "batches", after, false)
	if err != nil {
		return nil, err
	}
	return s.batches(ctx, "tenant = ?"+more+order+" LIMIT ?", after.Tenant, number, limit)
}

// OpenBatches returns the batches that have not ended, the oldest first.
func (s *Files) OpenBatches(ctx context.Context) ([]*Batch, error) {
	return s.batches(ctx, "open ORDER BY number")
}

func (s *Files) batches(ctx context.Context, where string, args ...any) ([]*Batch, error) {
	list, err := rows(ctx, s.db, scanBatch, "SELECT "+batchColumns+" FROM batches WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("list batches: %w", err)
	}
	return list, nil
}
