package hub

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// A file is downloaded in blocks. A worker requests a run of them in one range; a
// complete block is recorded in the journal with a checksum. One goroutine
// follows, reads the blocks back in order, compares the checksums, and hashes
// them: so only blocks that were damaged, on the way to the disk or while the
// program was not running, are downloaded again, and the hash is of the data that
// the disk returns.
const (
	blockBytes = 8 << 20
	runBlocks  = 8 // maximum number of blocks requested in one range
	bufBytes   = 512 << 10
	maxBad     = 3 // maximum number of times that a block may be read back damaged
)

// Suffixes of names in the folder of blobs. A partial file has its full length from
// the beginning, so it must not have the name under which other tools resume by
// length.
const (
	partialSuffix = ".partial"
	journalSuffix = ".journal"
)

// Download stores a file's content in the cache, complete and verified, or not at
// all: if it fails, the next call, in this process or another, continues with the
// data that has arrived. If two processes want the same file, one downloads it and
// the other waits. Content that is already in the cache is not read: verified
// reports whether this call has hashed it.
func (c *Client) Download(ctx context.Context, l *Listing, f File) (verified bool, err error) {
	if err := f.Check(); err != nil {
		return false, err
	}
	if c.has(l.Repo, f) {
		return false, nil
	}
	if c.o.Offline {
		return false, transportError(c.endpoint.Host, ErrOffline)
	}
	if err := c.prepare(l.Repo); err != nil {
		return false, err
	}

	unlock, err := c.lock(ctx, l.Repo, f)
	if err != nil {
		return false, err
	}
	defer unlock()
	if c.has(l.Repo, f) {
		return false, nil // another process has downloaded it in the meantime
	}
	if err := c.download(ctx, l, f); err != nil {
		return false, err
	}

	return true, nil
}

func (c *Client) download(ctx context.Context, l *Listing, f File) error {
	d := &download{c: c, listing: l, file: f, ranges: true}
	d.changed = sync.NewCond(&d.mu)
	if err := d.open(); err != nil {
		return err
	}
	defer d.close()
	if p, ok := c.o.Progress.(FileProgress); ok {
		p.StartFile(f, d.have())
	} else {
		c.o.Progress.Start(f.Path, f.Size, d.have())
	}
	defer c.o.Progress.Done()
	if err := d.fetch(ctx); err != nil {
		var e *Error
		if errors.As(err, &e) && e.tainted {
			err = errors.Join(err, d.journal.Truncate(d.trusted))
		}
		return err
	}
	return d.keep()
}

// lock takes the lock that Hugging Face's tools use for the same content.
func (c *Client) lock(ctx context.Context, repo string, f File) (unlock func(), err error) {
	name := filepath.Join(c.Dir, ".locks", filepath.Base(c.repo(repo)), f.ETag()+".lock")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.Path, err)
	}
	lock := flock.New(name)
	ok, err := lock.TryLock()
	if err == nil && !ok {
		c.o.Progress.Note("another process is downloading " + f.Path + "; waiting for it")
		_, err = lock.TryLockContext(ctx, 200*time.Millisecond)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.Path, err)
	}
	return func() { _ = lock.Unlock() }, nil
}

// download is the download of one file.
type download struct {
	c       *Client
	listing *Listing
	file    File
	data    *os.File
	journal *os.File
	trusted int64 // bytes downloaded by earlier calls, according to the journal
	ranges  bool  // false: the server does not support range requests

	// Only one worker writes at a time: the kernel serializes writes to a file anyway, and
	// lets the others spin, which takes CPU time from the hash if there are few cores.
	writing sync.Mutex

	mu      sync.Mutex
	changed *sync.Cond // a block was downloaded or found damaged, or the download has ended
	blocks  []block
	hashed  int   // number of blocks hashed
	err     error // why the download failed

	asking sync.Mutex
	signed string // the signed URL from the Hub, until it expires
}

// block is a part of the file.
type block struct {
	state blockState
	crc   uint32 // of its bytes as they arrived
	bad   int    // times it was damaged on the disk
}

type blockState byte

const (
	missing blockState = iota
	claimed            // a worker is downloading it
	fetched
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bounds returns where blocks begin and end in the file.
func (d *download) bounds(from, to int) (begin, end int64) {
	return int64(from) * d.c.block, min(int64(to)*d.c.block, d.file.Size)
}

// open opens the files that an earlier call left, or creates them.
func (d *download) open() error {
	blob := d.c.Blob(d.listing.Repo, d.file.ETag())
	d.blocks = make([]block, (d.file.Size+d.c.block-1)/d.c.block)
	var err error
	if d.data, err = os.OpenFile(blob+partialSuffix, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return fmt.Errorf("store %s: %w", d.file.Path, err)
	}
	if d.journal, err = os.OpenFile(blob+journalSuffix, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return fmt.Errorf("store %s: %w", d.file.Path, errors.Join(err, d.data.Close()))
	}
	err = d.readJournal()
	if err == nil {
		err = roomFor(d.file.Size-d.have(), filepath.Dir(blob), d.file.Path)
	}
	if err == nil {
		err = d.data.Truncate(d.file.Size)
	}
	if err != nil {
		return errors.Join(DiskError(d.file.Path, err), d.close())
	}
	return nil
}

func (d *download) close() error { return errors.Join(d.data.Close(), d.journal.Close()) }

// The journal has the size of blocks, and a line for every block that was
// downloaded: its number and its checksum. The last line may be truncated.
const (
	journalHead = "blocks %010x\n"
	journalLine = "%08x %08x\n"
	lineBytes   = 18 // of either
)

func (d *download) readJournal() error {
	info, err := d.data.Stat()
	if err != nil {
		return err
	}

	text, err := io.ReadAll(io.LimitReader(d.journal, int64(len(d.blocks)+1)*2*lineBytes))
	if err != nil {
		return err
	}

	lines, known := strings.CutPrefix(string(text), fmt.Sprintf(journalHead, d.c.block))
	kept := int64(lineBytes)
	if info.Size() != d.file.Size || !known {
		// Nothing can be used.
		lines = ""
		if err := errors.Join(d.data.Truncate(0), d.journal.Truncate(0)); err != nil {
			return err
		}
		if _, err := d.journal.WriteAt(fmt.Appendf(nil, journalHead, d.c.block), 0); err != nil {
			return err
		}
	}

	for line := range strings.Lines(lines) {
		var n int
		var crc uint32
		_, err := fmt.Sscanf(line, journalLine, &n, &crc)
		if err != nil || len(line) != lineBytes || n < 0 ||
			n >= len(d.blocks) {
			break
		}
		d.blocks[n] = block{state: fetched, crc: crc}
		kept += lineBytes
	}

	if err := d.journal.Truncate(kept); err != nil {
		return err
	}

	d.trusted = kept
	_, err = d.journal.Seek(kept, io.SeekStart)
	return err
}

// have returns how many bytes earlier calls have downloaded.
func (d *download) have() (n int64) {
	for i := range d.blocks {
		if d.blocks[i].state == fetched {
			begin, end := d.bounds(i, i+1)
			n += end - begin
		}
	}
	return n
}

// CheckRoom refuses a set of files that do not all fit on the disk. Files that an
// earlier call has begun are not counted: Download knows how much of them is missing.
func (c *Client) CheckRoom(l *Listing, files []File) error {
	if err := c.prepare(l.Repo); err != nil {
		return err
	}
	var need int64
	for _, f := range files {
		blob := c.Blob(l.Repo, f.ETag())
		if _, err := os.Stat(blob + partialSuffix); err != nil && !c.has(l.Repo, f) {
			need += f.Size
		}
	}
	return roomFor(need, filepath.Dir(c.Blob(l.Repo, "x")), l.Repo)
}

// roomFor requires 5 % more than needed: a completely full disk causes trouble for
// everybody.
func roomFor(need int64, dir, what string) error {
	need += need / 20
	free, ok := freeSpace(dir)
	if ok && need > free {
		return permanent(
			ErrDisk,
			"free up space, or set HF_HUB_CACHE to another disk",
			"%s needs %d MB, but the disk that holds the cache has %d MB free",
			what,
			need/1e6,
			free/1e6,
		)
	}
	return nil
}

// keep renames the file to its final name.
func (d *download) keep() error {
	blob := d.c.Blob(d.listing.Repo, d.file.ETag())
	if err := d.data.Sync(); err != nil {
		return DiskError(d.file.Path, err)
	}
	if err := os.Rename(d.data.Name(), blob); err != nil {
		return DiskError(d.file.Path, err)
	}
	if err := os.Remove(d.journal.Name()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(blob))
}
