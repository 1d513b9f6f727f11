package archive

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
)

// Limits bound what an archive stores. A zero value means the default given in the comment.
type Limits struct {
	Bytes       int64 // of everything, what is being written included; 16 GiB
	ClientBytes int64 // of what one tenant, or client without one, has stored; a quarter of Bytes
	Files       int   // number of files; 10,000
	ClientFiles int   // number of one tenant's files, or one client's; a quarter of Files
}

// withDefaults returns the limits with defaults in place of zero values.
func (l Limits) withDefaults() Limits {
	const share = 4
	if l.Bytes == 0 {
		l.Bytes = 16 << 30
	}
	if l.ClientBytes == 0 {
		l.ClientBytes = max(l.Bytes/share, 1)
	}
	if l.Files == 0 {
		l.Files = 10_000
	}
	if l.ClientFiles == 0 {
		l.ClientFiles = max(l.Files/share, 1)
	}
	return l
}

// amount is how much of an archive something takes.
type amount struct {
	bytes int64
	files int
}

// quota counts what is stored, in all and for each tenant or client. It is safe for concurrent use.
type quota struct {
	limits Limits

	most atomic.Pointer[func(client string) int64]

	mu       sync.Mutex
	all      amount
	byOwner  map[Owner]amount // by their shares
	byClient map[string]int64 // bytes of what each has made, whatever its tenant
}

func newQuota(limits Limits) *quota {
	return &quota{
		limits:   limits.withDefaults(),
		byOwner:  map[Owner]amount{},
		byClient: map[string]int64{},
	}
}

// mostOf returns how many bytes a client may have stored, by a limit of its own; 0 for none.
func (q *quota) mostOf(client string) int64 {
	if most := q.most.Load(); most != nil {
		return (*most)(client)
	}
	return 0
}

// take counts what is about to be written for an owner, or returns ErrFull.
func (q *quota) take(owner Owner, a amount) error {
	most := q.mostOf(owner.Client)
	q.mu.Lock()
	defer q.mu.Unlock()
	own := q.byOwner[owner.share()]
	switch l := &q.limits; {
	case most > 0 && a.bytes > 0 && q.byClient[owner.Client]+a.bytes > most:
		return fmt.Errorf("%w: your API key stores at most %d bytes", ErrFull, most)
	case q.all.bytes+a.bytes > l.Bytes:
		return fmt.Errorf("%w: all clients together store at most %d bytes", ErrFull, l.Bytes)
	case own.bytes+a.bytes > l.ClientBytes:
		return fmt.Errorf("%w: each client stores at most %d bytes", ErrFull, l.ClientBytes)
	case a.files > 0 && q.all.files+a.files > l.Files:
		return fmt.Errorf("%w: at most %d may be stored", ErrFull, l.Files)
	case a.files > 0 && own.files+a.files > l.ClientFiles:
		return fmt.Errorf("%w: each client has at most %d", ErrFull, l.ClientFiles)
	}
	q.add(owner, a)
	return nil
}

// found counts what an earlier process has stored, whatever the limits are now.
func (q *quota) found(owner Owner, a amount) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(owner, a)
}

// give counts what is no longer stored.
func (q *quota) give(owner Owner, a amount) { q.found(owner, amount{-a.bytes, -a.files}) }

// add changes the counts. The caller holds the mutex.
func (q *quota) add(owner Owner, a amount) {
	share := owner.share()
	own := q.byOwner[share]
	own.bytes += a.bytes
	own.files += a.files
	q.byOwner[share] = own
	if own == (amount{}) {
		delete(q.byOwner, share)
	}
	q.byClient[owner.Client] += a.bytes
	if q.byClient[owner.Client] == 0 {
		delete(q.byClient, owner.Client)
	}
	q.all.bytes += a.bytes
	q.all.files += a.files
}

// usage returns what all clients together have stored.
func (q *quota) usage() amount {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.all
}

// count counts the bytes of rows: a query for their owners and bytes.
func (q *quota) count(ctx context.Context, db *sql.DB, query string) error {
	list, err := rows(ctx, db, scanShare, query)
	for _, has := range list {
		q.found(has.owner, amount{bytes: has.bytes})
	}
	return err
}

// share is a row of a query for what an owner has.
type share struct {
	owner Owner
	bytes int64
}

func scanShare(scan func(...any) error) (s share, err error) {
	err = scan(&s.owner.Tenant, &s.owner.Client, &s.bytes)
	return s, err
}
