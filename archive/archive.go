// Package archive stores responses and conversations between requests, in one SQLite file in a folder that
// only the user can read, or in memory; and in such a folder also files and the state of batches.
package archive

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors of records.
var (
	// ErrNotFound means that a record is not stored, or no longer stored.
	ErrNotFound = errors.New("it is not stored")
	// ErrBroken means that a response is stored, but an earlier response of its conversation is not: the
	// conversation has lost its beginning.
	ErrBroken = errors.New("an earlier response of the conversation is no longer stored")
	// ErrTooLong means that a conversation is larger than the caller wants to read.
	ErrTooLong = errors.New("the conversation is too long")
)

// maxTurns limits the length of a conversation.
const maxTurns = 1000

// Record is one turn of a conversation, or an object that contains a whole one.
type Record struct {
	ID       string
	Owner    Owner
	Previous string // the response that it continues, or empty
	Created  time.Time
	Input    json.RawMessage // the request's input, an array of items
	Body     json.RawMessage // the response, as returned by the API
}

// overhead is about what a record takes besides its texts, in bytes.
const overhead = 512

// bytes returns what a record counts for.
func (r *Record) bytes() int64 {
	return int64(overhead + len(r.ID) + len(r.Previous) + len(r.Input) + len(r.Body))
}

// Archive is an open archive. It is safe for concurrent use.
type Archive struct {
	db     *sql.DB
	folder string
	lock   *flock.Flock
	keep   time.Duration
	quota  *quota
}

// Open opens the archive in a folder, and creates it if necessary. Records older than keep
// are deleted; 0 keeps them forever. Only one process can have it open.
func Open(folder string, keep time.Duration, limits Limits) (*Archive, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(folder, "responses.lock"), flock.SetPermissions(0o600))
	if free, err := lock.TryLock(); err != nil || !free {
		if err == nil {
			err = errors.New("another process is using the folder")
		}
		return nil, err
	}
	path := filepath.Join(folder, "responses.db")
	db, err := openDatabase(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, lock.Unlock()))
	}

	a := &Archive{
		db:     db,
		folder: folder,
		lock:   lock,
		keep:   keep,
		quota:  newQuota(limits),
	}
	ctx := context.Background()
	err = a.quota.count(ctx, db, "SELECT tenant, owner, SUM(bytes) FROM responses GROUP BY tenant, owner")
	if err = errors.Join(err, a.dropOld(ctx)); err != nil && !errors.Is(err, ErrFull) {
		a.Close()
		return nil, err
	}
	return a, nil
}

func openDatabase(path string) (*sql.DB, error) {
	// SQLite would create it readable by everyone. Its other files get the same mode.
	f, err := os.OpenFile(path, os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}

	f.Close()
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}

	// Deleted data is overwritten. Every commit is on disk before it is reported.
	// No write-ahead log: it stores everything twice, so a full disk would leave no room
	// to delete anything.
	pragmas := url.Values{
		"_pragma": {"journal_mode(TRUNCATE)", "synchronous(FULL)", "secure_delete(ON)", "busy_timeout(5000)"},
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: pragmas.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := prepare(db); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// LimitClients has clients store no more bytes than a function says, 0 for no limit of their own. What one has stored
// before counts.
func (a *Archive) LimitClients(most func(client string) int64) { a.quota.most.Store(&most) }

// Close closes the archive.
func (a *Archive) Close() error { return errors.Join(a.db.Close(), a.lock.Unlock()) }

// Put implements Store.
func (a *Archive) Put(ctx context.Context, records ...*Record) error {
	if err := a.dropOld(ctx); err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	for i, r := range records {
		if err := a.quota.take(r.Owner, amount{bytes: r.bytes()}); err != nil {
			a.untake(records[:i])
			return fmt.Errorf("store: %w", err)
		}
	}
	if err := a.insert(ctx, records); err != nil {
		a.untake(records)
		return fmt.Errorf("store: %w", noRoom(err))
	}
	return nil
}

// untake ends the count of records that were not stored.
func (a *Archive) untake(records []*Record) {
	for _, r := range records {
		a.quota.give(r.Owner, amount{bytes: r.bytes()})
	}
}

// Admits implements Store.
func (a *Archive) Admits(owner Owner, bytes int64) error {
	asked := amount{bytes: overhead + bytes}
	if err := a.quota.take(owner, asked); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	a.quota.give(owner, asked)
	return nil
}

// insert stores all of the records, or none.
func (a *Archive) insert(ctx context.Context, records []*Record) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit

	var replaced []share
	for _, r := range records {
		row := tx.QueryRowContext(
			ctx, "DELETE FROM responses "+byKey+" RETURNING tenant, owner, bytes", r.Owner.Tenant, r.ID)
		had, err := scanShare(row.Scan)
		if err == nil {
			replaced = append(replaced, had)
		} else if !errors.Is(err, sql.ErrNoRows) {
			return err
		}

		_, err = tx.ExecContext(
			ctx,
			"INSERT INTO responses (id, previous, created, input, body, tenant, owner, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			r.ID,
			r.Previous,
			r.Created.Unix(),
			[]byte(r.Input),
			[]byte(r.Body),
			r.Owner.Tenant,
			r.Owner.Client,
			r.bytes(),
		)
		if err != nil {
			return err
		}
	}

	if err := tx.Commit(); err != nil {
		return err
	}
	for _, had := range replaced {
		a.quota.give(had.owner, amount{bytes: had.bytes})
	}
	return nil
}

func (a *Archive) dropOld(ctx context.Context) error {
	if a.keep <= 0 {
		return nil
	}
	_, err := a.remove(ctx, "WHERE created < ?", time.Now().Add(-a.keep).Unix())
	return err
}

// remove deletes rows, and returns how many.
func (a *Archive) remove(ctx context.Context, where string, args ...any) (int, error) {
	gone, err := rows(ctx, a.db, scanShare, "DELETE FROM responses "+where+" RETURNING tenant, owner, bytes", args...)
	if err != nil {
		return 0, fmt.Errorf("delete: %w", noRoom(err))
	}
	for _, had := range gone {
		a.quota.give(had.owner, amount{bytes: had.bytes})
	}
	return len(gone), nil
}

// byKey is the condition for one row. The index has the rows of each tenant for itself: no more is read for an ID of
// another tenant than for one that nobody has.
const byKey = "INDEXED BY responses_tenant WHERE tenant = ? AND id = ?"

// Get implements Store.
func (a *Archive) Get(ctx context.Context, key Key) (*Record, error) {
	r := Record{ID: key.ID, Owner: Owner{Tenant: key.Tenant}}
	var created int64
	row := a.db.QueryRowContext(
		ctx, "SELECT owner, previous, created, input, body FROM responses "+byKey, key.Tenant, key.ID)
	err := row.Scan(&r.Owner.Client, &r.Previous, &created, (*[]byte)(&r.Input), (*[]byte)(&r.Body))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	r.Created = time.Unix(created, 0)
	return &r, nil
}

// Conversation implements Store. The texts are read when their sizes are known.
func (a *Archive) Conversation(ctx context.Context, key Key, most int64) ([]*Record, error) {
	ids, err := follow(key.ID, most, func(id string) (previous string, bytes int64, err error) {
		row := a.db.QueryRowContext(ctx, "SELECT previous, bytes FROM responses "+byKey, key.Tenant, id)
		err = row.Scan(&previous, &bytes)
		if errors.Is(err, sql.ErrNoRows) {
			err = ErrNotFound
		}
		return previous, bytes, err
	})
	if err != nil {
		return nil, err
	}

	turns := make([]*Record, len(ids))
	for i, id := range ids {
		turns[i], err = a.Get(ctx, Key{key.Tenant, id})
		if errors.Is(err, ErrNotFound) && i < len(ids)-1 {
			err = ErrBroken // it was deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
	}
	return turns, nil
}

// follow follows a conversation back to its beginning, and returns the IDs of its responses, the oldest first.
// Next returns the one before a response, and what the response counts for.
func follow(
	id string, most int64, next func(id string) (previous string, bytes int64, err error),
) (ids []string, err error) {
	for left := most; id != ""; {
		previous, bytes, err := next(id)
		if errors.Is(err, ErrNotFound) && len(ids) > 0 {
			err = ErrBroken
		}
		if err != nil {
			return nil, err
		}

		left -= bytes
		switch {
		case len(ids) == maxTurns:
			return nil, fmt.Errorf("%w: it has more than %d responses", ErrTooLong, maxTurns)
		case left < 0:
			return nil, fmt.Errorf("%w: it has more than %d bytes", ErrTooLong, most)
		}
		ids = append(ids, id)
		id = previous
	}
	slices.Reverse(ids)
	return ids, nil
}

// Delete implements Store.
func (a *Archive) Delete(ctx context.Context, key Key) error {
	gone, err := a.remove(ctx, byKey, key.Tenant, key.ID)
	if err == nil && gone == 0 {
		err = ErrNotFound
	}
	return err
}

// isFull reports whether an error is SQLite's that there is no room for a change.
func isFull(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL
}
