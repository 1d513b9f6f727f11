package hub

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// errWhole means that a server answers range requests with whole files.
var errWhole = errors.New("the server does not support range requests")

// fetch runs the workers and the hash until the file is complete and verified.
func (d *download) fetch(ctx context.Context) error {
	err := d.work(ctx)
	if errors.Is(err, errWhole) {
		d.c.o.Progress.Note("the server does not support range requests; downloading the file in one piece")
		d.ranges = false
		d.err = nil
		for i := range d.blocks {
			if d.blocks[i].state == claimed {
				d.blocks[i].state = missing
			}
		}
		err = d.work(ctx)
	}
	return err
}

func (d *download) work(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The end of the context wakes the goroutines that wait for a change.
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		d.fail(context.Cause(ctx))
	})
	defer func() {
		if !stop() {
			<-woken
		}
	}()
	workers := d.c.o.Connections
	if !d.ranges {
		workers = 1
	}

	var wg sync.WaitGroup
	for range min(workers, len(d.blocks)) {
		wg.Go(func() {
			if err := d.worker(ctx); err != nil {
				d.fail(err)
				cancel(err)
			}
		})
	}

	sum, err := d.hash()
	if err != nil {
		d.fail(err)
		cancel(err)
	}

	wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	if sum == d.file.ETag() {
		return nil
	}

	d.discard()
	return permanent(
		ErrIntegrity,
		"nothing was kept; pull again, and if it happens again, check the mirror or the network",
		"%s: the downloaded bytes have the hash %s, but the Hub's listing says %s",
		d.file.Path,
		sum,
		d.file.ETag(),
	)
}

// fail ends the download; the first error is kept.
func (d *download) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
	}
	d.changed.Broadcast()
}

// discard removes data that cannot become the file.
func (d *download) discard() {
	os.Remove(d.data.Name())
	os.Remove(d.journal.Name())
}

// run is a worker's current part of the file.
type run struct {
	at, end int64  // the next byte, and the one after the last
	crc     uint32 // of the current block, up to at
}

// worker fetches runs of blocks until every block is hashed.
func (d *download) worker(ctx context.Context) error {
	buf := make([]byte, bufBytes)
	for {
		from, to := d.claim()
		if from == to {
			return nil
		}
		var r run
		r.at, r.end = d.bounds(from, to)
		for try := 1; r.at < r.end; try++ {
			before := r.at
			err := d.fetchRun(ctx, &r, buf)
			if err == nil {
				break
			}
			if r.at > before {
				try = 1 // there was progress: start counting again
			}
			if err := d.c.retry(ctx, try, err); err != nil {
				return err
			}
		}
	}
}

// claim takes the next run of missing blocks. While other blocks are in progress,
// which may turn out to be damaged, it waits. It returns an empty run at the end.
func (d *download) claim() (from, to int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.err == nil && d.hashed < len(d.blocks) {
		for from = d.hashed; from < len(d.blocks); from++ {
			if d.blocks[from].state == missing {
				break
			}
		}
		if from == len(d.blocks) {
			d.changed.Wait()
			continue
		}
		if !d.ranges {
			d.blocks[from].state = claimed
			return from, len(d.blocks)
		}
		for to = from; to < len(d.blocks) && to < from+runBlocks && d.blocks[to].state == missing; to++ {
			d.blocks[to].state = claimed
		}
		return from, to
	}
	return 0, 0
}

// fetchRun downloads the rest of a run; r records how far it got.
func (d *download) fetchRun(ctx context.Context, r *run, buf []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := d.request(ctx, r)
	if err != nil {
		return err
	}
	defer body.Close()
	idle := time.AfterFunc(d.c.o.Idle, cancel)
	defer idle.Stop()
	src := readerFunc(func(p []byte) (int, error) {
		idle.Reset(d.c.o.Idle)
		return body.Read(p)
	})
	if !d.ranges {
		if _, err := io.CopyN(io.Discard, src, r.at); err != nil {
			return d.cut(err, r.at)
		}
	}

	for r.at < r.end {
		n := int(r.at / d.c.block)
		_, end := d.bounds(n, n+1)
		k, err := io.ReadFull(src, buf[:min(int64(len(buf)), end-r.at)])
		if r.at == 0 && d.rejects(buf[:k]) {
			e := htmlError(d.c.endpoint.Hostname())
			e.tainted = true // the rest would be web pages too
			return e
		}
		if err := d.put(r, n, buf[:k]); err != nil {
			return err
		}
		if err != nil {
			return d.cut(err, r.at)
		}
	}

	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// put writes the next bytes of block n. A server without range support sends everything:
// a block that is already there is not replaced, since it may have been hashed.
func (d *download) put(r *run, n int, p []byte) error {
	if d.state(n) != fetched {
		r.crc = crc32.Update(r.crc, castagnoli, p)
		d.writing.Lock()
		_, err := d.data.WriteAt(p, r.at)
		d.writing.Unlock()
		if err != nil {
			return DiskError(d.file.Path, err)
		}
		d.c.o.Progress.Add(int64(len(p)))
	}
	r.at += int64(len(p))
	if _, end := d.bounds(n, n+1); r.at < end {
		return nil
	}
	crc := r.crc
	r.crc = 0
	return d.record(n, crc)
}

// rejects recognizes a web page in place of a model, which some networks send
// without declaring it.
func (d *download) rejects(beginning []byte) bool {
	return strings.EqualFold(path.Ext(d.file.Path), ".gguf") &&
		http.DetectContentType(beginning) == "text/html; charset=utf-8"
}

// cut returns the error for a connection that ended too early.
func (d *download) cut(err error, at int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return passing("%s: the connection was closed after byte %d", d.file.Path, at)
	}
	if errors.Is(err, context.Canceled) {
		return passing("%s: no data came for %s after byte %d", d.file.Path, d.c.o.Idle, at)
	}
	return transportError(d.c.endpoint.Host, err)
}

func (d *download) state(n int) blockState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.blocks[n].state
}

// record records that a block is complete.
func (d *download) record(n int, crc uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blocks[n].state == fetched {
		return nil
	}
	d.blocks[n].state = fetched
	d.blocks[n].crc = crc
	d.changed.Broadcast()
	if _, err := fmt.Fprintf(d.journal, journalLine, n, crc); err != nil {
		return DiskError(d.file.Path, err)
	}
	return nil
}

// hash follows the workers through the file and returns the hash that identifies the
// content on the Hub, or "" if the download ended before.
func (d *download) hash() (string, error) {
	h := d.file.NewHash()
	buf := make([]byte, min(d.c.block, d.file.Size))
	for n := 0; n < len(d.blocks); {
		crc, ok := d.await(n)
		if !ok {
			return "", nil
		}

		begin, end := d.bounds(n, n+1)
		b := buf[:end-begin]
		if _, err := d.data.ReadAt(b, begin); err != nil {
			return "", fmt.Errorf("read back %s: %w", d.file.Path, err)
		}

		if crc32.Checksum(b, castagnoli) != crc {
			if err := d.damaged(n); err != nil {
				return "", err
			}
			continue
		}

		h.Write(b)
		n++
		d.mu.Lock()
		d.hashed = n
		d.changed.Broadcast()
		d.mu.Unlock()
	}

	return hex.EncodeToString(h.Sum(nil)), nil
}

// await waits for a block; it returns false if the download ended first.
func (d *download) await(n int) (crc uint32, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.err == nil && d.blocks[n].state != fetched {
		d.changed.Wait()
	}
	return d.blocks[n].crc, d.err == nil
}

// damaged returns a block to the workers.
func (d *download) damaged(n int) error {
	begin, end := d.bounds(n, n+1)
	d.mu.Lock()
	defer d.mu.Unlock()
	b := &d.blocks[n]
	if b.bad++; b.bad > maxBad {
		return permanent(
			ErrIntegrity, "check the disk that holds the cache",
			"%s: the disk returns different bytes from those written, at %d", d.file.Path, begin,
		)
	}
	b.state = missing
	d.changed.Broadcast()
	d.c.o.Progress.Note(
		fmt.Sprintf("%s: bytes %d to %d were damaged on the disk; fetching them again", d.file.Path, begin, end),
	)
	d.c.o.Progress.Add(begin - end)
	return nil
}

// request requests the rest of a run and returns its body. The first request goes
// to the Hub, which redirects to a signed URL that expires; the others go directly
// to that URL.
func (d *download) request(ctx context.Context, r *run) (io.ReadCloser, error) {
	d.asking.Lock()
	if d.signed != "" {
		address := d.signed
		d.asking.Unlock()
		body, _, err := d.ask(ctx, address, r)
		var e *Error
		if errors.As(err, &e) && e.stale {
			d.forgetAddress(address)
		}
		return body, err
	}
	defer d.asking.Unlock()
	body, from, err := d.ask(
		ctx, d.c.endpoint.JoinPath(d.listing.Repo, "resolve", d.listing.Commit).String()+"/"+escapePath(d.file.Path), r,
	)
	if err == nil {
		d.signed = from
	}
	return body, err
}

// ask returns the body of a response, and its URL.
func (d *download) ask(ctx context.Context, address string, r *run) (body io.ReadCloser, from string, err error) {
	header := http.Header{}
	if d.ranges {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.at, r.end-1))
	}
	res, err := d.c.get(ctx, address, header)
	if err != nil {
		return nil, "", err
	}
	if err := d.accept(res, r.at); err != nil {
		res.Body.Close()
		return nil, "", err
	}
	return res.Body, res.Request.URL.String(), nil
}

// forgetAddress makes the next request go to the Hub again.
func (d *download) forgetAddress(old string) {
	d.asking.Lock()
	defer d.asking.Unlock()
	if d.signed == old {
		d.signed = ""
	}
}

func escapePath(path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// accept refuses a response that does not contain the requested bytes.
func (d *download) accept(res *http.Response, at int64) error {
	host := res.Request.URL.Hostname()
	switch {
	case res.StatusCode != http.StatusOK && res.StatusCode != http.StatusPartialContent:
		return d.c.statusError(res, d.listing.Repo+"/"+d.file.Path, d.listing.Repo)
	case isHTML(res) && !strings.HasSuffix(d.file.Path, ".html"):
		return htmlError(host)
	case res.Header.Get("Content-Encoding") != "" && res.Header.Get("Content-Encoding") != "identity":
		return permanent(
			ErrNetwork,
			"look for a proxy that modifies responses",
			"%s sends the file compressed, although it was asked not to",
			host,
		)
	case res.StatusCode == http.StatusOK && d.ranges:
		return errWhole
	case res.StatusCode == http.StatusOK:
		if res.ContentLength >= 0 && res.ContentLength != d.file.Size {
			return d.wrongSize(host, res.ContentLength)
		}
		return nil
	}

	var first, last, total int64
	_, err := fmt.Sscanf(res.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total)
	if err != nil ||
		first != at {
		return passing("%s responded to a range request with %q", host, oneLine(res.Header.Get("Content-Range"), 60))
	}
	if total != d.file.Size {
		return d.wrongSize(host, total)
	}

	return nil
}

func (d *download) wrongSize(host string, size int64) error {
	return permanent(
		ErrIntegrity, "the file was replaced during the download, or a mirror or proxy is at fault: pull again",
		"%s: %s has %d bytes, but the Hub's listing says %d", d.file.Path, host, size, d.file.Size,
	)
}
