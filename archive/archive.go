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
	_ "modernc.org/sqlite" // the driver
)

// ErrNotFound means that a record is not stored, or no longer stored.
var ErrNotFound = errors.New("it is not stored")

// ErrBroken means that a response is stored, but an earlier response of its conversation is
// not: the conversation has lost its beginning.
var ErrBroken = errors.New("an earlier response of the conversation is no longer stored")

// maxTurns limits the length of a conversation.
const maxTurns = 1000

// Response is one turn of a conversation.
type Record struct {
	ID       string
	Previous string // the response that it continues, or empty
	Created  time.Time
	Input    json.RawMessage // the request's input, an array of items
	Body     json.RawMessage // the response, as returned by the API
}

// Archive is an open archive. It is safe for concurrent use.
type Archive struct {
	db     *sql.DB
	folder string
	lock   *flock.Flock
	keep   time.Duration
}

const schema = `
CREATE TABLE IF NOT EXISTS responses (
	id TEXT PRIMARY KEY, previous TEXT NOT NULL, created INTEGER NOT NULL, input BLOB NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS responses_created ON responses (created);
PRAGMA user_version = 1;`

// Open opens the archive in a folder, and creates it if necessary. Records older than keep
// are deleted; 0 keeps them forever. Only one process can have it open.
func Open(folder string, keep time.Duration) (*Archive, error) {
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
	a := &Archive{db: db, folder: folder, lock: lock, keep: keep}
	if err := a.dropOld(context.Background()); err != nil {
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
	var version int
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		db.Close()
		return nil, err
	}

	if version > 1 {
		db.Close()
		return nil, fmt.Errorf("its database has version %d, written by a newer serve", version)
	}

	if _, err := db.Exec(schema); err != nil {
		db.Close()
		return nil, err
	}

	return db, nil
}

// Close closes the archive.
func (a *Archive) Close() error { return errors.Join(a.db.Close(), a.lock.Unlock()) }

// Put implements Store.
func (a *Archive) Put(ctx context.Context, records ...*Record) error {
	if err := a.dropOld(ctx); err != nil {
		return err
	}
	if err := a.insert(ctx, records); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// insert stores all of the records, or none.
func (a *Archive) insert(ctx context.Context, records []*Record) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit

	for _, r := range records {
		_, err := tx.ExecContext(
			ctx,
			"INSERT OR REPLACE INTO responses (id, previous, created, input, body) VALUES (?, ?, ?, ?, ?)",
			r.ID,
			r.Previous,
			r.Created.Unix(),
			[]byte(r.Input),
			[]byte(r.Body),
		)
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (a *Archive) dropOld(ctx context.Context) error {
	if a.keep <= 0 {
		return nil
	}
	return a.remove(ctx, "created < ?", time.Now().Add(-a.keep).Unix(), nil)
}

// remove deletes rows; missing is the error if there are none.
func (a *Archive) remove(ctx context.Context, where string, argument any, missing error) error {
	res, err := a.db.ExecContext(ctx, "DELETE FROM responses WHERE "+where, argument)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = missing
	}
	return err
}

// Get implements Store.
func (a *Archive) Get(ctx context.Context, id string) (*Record, error) {
	r := Record{ID: id}
	var created int64
	row := a.db.QueryRowContext(ctx, "SELECT previous, created, input, body FROM responses WHERE id = ?", id)
	err := row.Scan(&r.Previous, &created, (*[]byte)(&r.Input), (*[]byte)(&r.Body))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	r.Created = time.Unix(created, 0)
	return &r, nil
}

// Conversation implements Store.
func (a *Archive) Conversation(ctx context.Context, id string) ([]*Record, error) {
	return conversation(id, func(id string) (*Record, error) { return a.Get(ctx, id) })
}

// conversation follows a conversation back to its beginning.
func conversation(id string, get func(id string) (*Record, error)) ([]*Record, error) {
	var turns []*Record
	for id != "" {
		r, err := get(id)
		if errors.Is(err, ErrNotFound) && len(turns) > 0 {
			err = ErrBroken
		}
		if err != nil {
			return nil, err
		}
		if len(turns) == maxTurns {
			return nil, fmt.Errorf("the conversation has more than %d responses", maxTurns)
		}
		turns = append(turns, r)
		id = r.Previous
	}
	slices.Reverse(turns)
	return turns, nil
}

// Delete implements Store.
func (a *Archive) Delete(ctx context.Context, id string) error {
	return a.remove(ctx, "id = ?", id, ErrNotFound)
}
