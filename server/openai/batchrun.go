package openai

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"serve/archive"
	"serve/engine"
	"serve/fault"
	"serve/service"
)

// batches runs the batches that have not ended: a goroutine for each, which starts the lines in order. All
// of them share the places for lines.
type batches struct {
	api      *API
	places   chan struct{} // has a token for each line that is computed
	ctx      context.Context
	cancel   context.CancelCauseFunc
	draining chan struct{} // closed when no more lines are begun

	mu      sync.Mutex
	jobs    map[archive.Key]*job
	drained bool
	wg      sync.WaitGroup
}

func newBatches(api *API) *batches {
	b := &batches{
		api:      api,
		places:   make(chan struct{}, max(1, api.opts.BatchLines)),
		draining: make(chan struct{}),
		jobs:     map[archive.Key]*job{},
	}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	return b
}

// resume goes on with the batches that an earlier process has left.
func (b *batches) resume() error {
	list, err := b.api.opts.Files.OpenBatches(b.ctx)
	if err != nil {
		return err
	}
	for _, record := range list {
		state, err := stateOf(record)
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.start(record, state)
		b.mu.Unlock()
	}
	return nil
}

// begin stores a new batch and starts it.
func (b *batches) begin(ctx context.Context, state batchState) (batchBody, *fault.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drained {
		return batchBody{}, service.Fault(engine.ErrStopped, "")
	}
	owner := ownerOf(ctx)
	if e := b.hasRoom(owner.Tenant); e != nil {
		e.RetryAfter = time.Minute
		return batchBody{}, e
	}

	record := &archive.Batch{
		ID:      state.Body.ID,
		Owner:   owner,
		Created: time.Unix(state.Body.CreatedAt, 0),
		Input:   state.Body.InputFileID,
		Output:  outputFileID(state.Body.ID, "output"),
		Errors:  outputFileID(state.Body.ID, "error"),
		Open:    true,
	}
	body, err := json.Marshal(state)
	if err != nil {
		return batchBody{}, service.Fault(err, "")
	}
	record.Body = body
	if err := b.api.opts.Files.Keep(ctx, record); err != nil {
		return batchBody{}, b.api.fileFailed(err, "")
	}
	b.start(record, state)
	return state.Body, nil
}

// hasRoom returns an error if a tenant may not have another batch now. The caller holds the mutex.
func (b *batches) hasRoom(tenant string) *fault.Error {
	own := 0
	for key := range b.jobs {
		if key.Tenant == tenant {
			own++
		}
	}
	switch {
	case own >= maxOpenBatches:
		return fault.New(fault.RateLimited, "", "There are already %d unfinished batches; wait for one to finish.", own)
	case len(b.jobs) >= maxAllBatches:
		return fault.New(fault.RateLimited, "", "The server has too many unfinished batches. Try again later.")
	}
	return nil
}

// start starts a batch. The caller holds the mutex.
func (b *batches) start(record *archive.Batch, state batchState) {
	ctx, cancel := context.WithCancelCause(b.ctx)
	j := &job{batches: b, record: record, state: state, cancel: cancel}
	b.jobs[j.key()] = j
	b.wg.Go(func() {
		defer cancel(nil)
		defer func() {
			if p := recover(); p != nil {
				b.api.opts.Log.Error("panic", "batch", record.ID, "panic", p, "stack", string(debug.Stack()))
			}
		}()
		if j.run(ctx) {
			b.mu.Lock()
			defer b.mu.Unlock()
			delete(b.jobs, j.key())
		}
	})
}

// find returns the job of a batch that has not ended, or nil.
func (b *batches) find(key archive.Key) *job {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.jobs[key]
}

// drain has batches begin no more lines.
func (b *batches) drain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.drained {
		b.drained = true
		close(b.draining)
	}
}

// wait returns when no batch runs, or when ctx is done.
func (b *batches) wait(ctx context.Context) { await(ctx, &b.wg) }

// stop cancels the lines that are computed. Their batches go on when the server starts again.
func (b *batches) stop() {
	b.drain()
	b.cancel(errStopping)
	b.wg.Wait()
}

// Causes of the end of a batch, besides those of responses.
var errWindow = errors.New("the batch has expired")

// job is a batch that has not ended.
type job struct {
	batches *batches
	record  *archive.Batch
	cancel  context.CancelCauseFunc

	mu      sync.Mutex // guards what follows
	state   batchState
	results *archive.Draft // of requests that were answered; nil until it is open
	errors  *archive.Draft // of requests that failed
}

// key returns by what the batch is found.
func (j *job) key() archive.Key { return archive.Key{Tenant: j.record.Owner.Tenant, ID: j.record.ID} }

// input opens the file that the batch reads.
func (j *job) input(ctx context.Context) (*archive.Content, error) {
	key := archive.Key{Tenant: j.record.Owner.Tenant, ID: j.record.Input}
	_, content, err := j.batches.api.opts.Files.Open(context.WithoutCancel(ctx), key)
	return content, err
}

// body returns the batch as clients see it.
func (j *job) body() batchBody {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.Body
}

// store stores the batch, with the drafts as files. The caller holds the mutex.
func (j *job) store(ctx context.Context, drafts ...*archive.Draft) error {
	body, err := json.Marshal(j.state)
	if err != nil {
		return err
	}
	j.record.Body = body
	return j.batches.api.opts.Files.Keep(context.WithoutCancel(ctx), j.record, drafts...)
}

// stop cancels the batch, unless it is about to end or on the way.
func (j *job) stop(ctx context.Context) (batchBody, *fault.Error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s := j.state.Body.Status; s != batchValidating && s != batchInProgress {
		return j.state.Body, nil
	}

	before := j.state.Body
	j.state.Body.set(batchCancelling)
	if err := j.store(ctx); err != nil {
		j.state.Body = before
		return before, storageFailed(err)
	}
	j.cancel(errCancelled)
	return j.state.Body, nil
}

// advance sets the status and stores it, unless the batch is being cancelled.
func (j *job) advance(ctx context.Context, status string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state.Body.Status == batchCancelling || j.state.Body.Status == status {
		return nil
	}
	j.state.Body.set(status)
	return j.store(ctx)
}

// run runs the batch. It returns false if the server stops before the batch has ended: a later process
// goes on with it.
func (j *job) run(ctx context.Context) (ended bool) {
	ctx, cancel := context.WithDeadlineCause(ctx, time.Unix(j.body().ExpiresAt, 0), errWindow)
	defer cancel()
	defer j.close()

	status, err := j.process(ctx)
	if err != nil {
		j.batches.api.opts.Log.Error("a batch has failed", "batch", j.record.ID, "error", err)
		status = batchFailed
		j.fail(j.problem(err))
	}
	if status == "" {
		return false
	}

	for {
		err := j.finish(ctx, status)
		if err == nil {
			return true
		}
		j.batches.api.opts.Log.Error("the end of a batch is not stored yet", "batch", j.record.ID, "error", err)
		select {
		case <-time.After(time.Minute):
		case <-j.batches.draining:
			return false
		}
	}
}

// close closes the drafts, which stay for a later process if the batch has not ended.
func (j *job) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, d := range []*archive.Draft{j.results, j.errors} {
		if d != nil {
			_ = d.Close() // each write was synced
		}
	}
}

// problem returns the error of a batch that cannot go on.
func (j *job) problem(err error) *batchError {
	e := j.batches.api.fileFailed(err, j.record.Input)
	return newBatchError(failures[e.Kind].code, "", 0, "%s", e.Message)
}

// fail notes errors of the batch itself.
func (j *job) fail(list ...*batchError) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.Body.Errors = &batchErrors{Object: "list", Data: list}
}

// process takes the batch from the status that it has to its end, and returns the status there; empty if
// the server stops.
func (j *job) process(ctx context.Context) (status string, err error) {
	if j.body().Status == batchValidating {
		ok, err := j.validate(ctx)
		if err != nil {
			return "", err
		}
		if !ok {
			return batchFailed, nil
		}
		if err := j.advance(ctx, batchInProgress); err != nil {
			return "", err
		}
	}

	done, err := j.restore()
	if err != nil {
		return "", err
	}
	if j.body().Status == batchInProgress {
		if err := j.compute(ctx, done); err != nil {
			return "", err
		}
	}
	return j.outcome(ctx, done)
}

// outcome returns the status at the end of a batch whose lines do not run any more.
func (j *job) outcome(ctx context.Context, done *finished) (string, error) {
	body := j.body()
	cause := context.Cause(ctx)
	counts := body.RequestCounts
	switch {
	case body.Status == batchCancelling:
		return batchCancelled, nil
	case counts.Completed+counts.Failed == counts.Total:
		return batchCompleted, nil
	case errors.Is(cause, errWindow):
		return batchExpired, j.expire(done)
	case cause != nil && !errors.Is(cause, errStopping):
		return "", cause
	}
	return "", nil
}

// validate reads the whole input. It returns false if it has errors.
func (j *job) validate(ctx context.Context) (ok bool, err error) {
	content, err := j.input(ctx)
	if err != nil {
		return false, err
	}
	defer content.Close()

	in, err := validateInput(content, j.body().Endpoint, j.maxLine())
	if err != nil {
		return false, err
	}
	if len(in.errors) > 0 {
		j.fail(in.errors...)
		return false, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.Body.RequestCounts.Total = in.total
	j.state.Body.Model = in.model
	return true, nil
}

// maxLine returns how many bytes a line may have.
func (j *job) maxLine() int { return int(j.batches.api.opts.MaxBody) + maxLineOverhead }

// compute computes the lines that are not done yet, and returns when none runs any more. The error is one
// of reading the input.
func (j *job) compute(ctx context.Context, done *finished) error {
	content, err := j.input(ctx)
	if err != nil {
		return err
	}
	defer content.Close()

	// A batch begins no more lines than have a place, so that it keeps few in memory while others are computed.
	own := make(chan struct{}, cap(j.batches.places))
	var wg sync.WaitGroup
	defer wg.Wait()
	lines := newLineReader(content, j.maxLine())
	for {
		line, err := j.nextLine(lines, done)
		if line == nil || err != nil {
			return err
		}
		if !j.enter(ctx, own) {
			return nil
		}
		wg.Go(func() {
			defer func() { <-own }()
			j.computeLine(ctx, line, done)
		})
	}
}

// nextLine returns the next line that is not done, or nil after the last one.
func (j *job) nextLine(lines *lineReader, done *finished) (*batchLine, error) {
	for {
		text, _, err := lines.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil, nil
			}
			return nil, err
		}
		line, e := parseLine(text, lines.line, j.body().Endpoint)
		if e != nil {
			return nil, errors.New(e.Message) // it was valid: somebody has changed the file
		}
		if !done.has(line.id) {
			return line, nil
		}
	}
}

// finish stores the batch's end: its results become files.
func (j *job) finish(ctx context.Context, status string) error {
	if status == batchCompleted {
		if err := j.advance(ctx, batchFinalizing); err != nil {
			return err
		}
	}

	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state.Body.Status == batchCancelling {
		status = batchCancelled // at the last moment
	}
	before := j.state.Body
	kept := j.publish()
	j.state.Body.set(status)
	j.record.Open = false
	if err := j.store(ctx, kept...); err != nil {
		j.record.Open = true
		j.state.Body = before
		return err
	}

	for _, d := range []*archive.Draft{j.results, j.errors} {
		if d != nil && d.File.Bytes == 0 {
			if err := d.Discard(); err != nil {
				j.batches.api.opts.Log.Error("an empty file is not removed", "batch", j.record.ID, "error", err)
			}
		}
	}
	return nil
}

// publish returns the drafts that become files. The caller holds the mutex.
func (j *job) publish() (kept []*archive.Draft) {
	now := time.Now()
	for _, of := range []struct {
		draft *archive.Draft
		name  string
		id    **string
	}{
		{j.results, "output", &j.state.Body.OutputFileID},
		{j.errors, "error", &j.state.Body.ErrorFileID},
	} {
		if of.draft == nil || of.draft.File.Bytes == 0 {
			continue
		}
		f := &of.draft.File
		f.Owner = j.record.Owner
		f.Created = now
		f.Expires = now.Add(j.state.Kept)
		f.Name = j.record.ID + "_" + of.name + ".jsonl"
		f.Purpose = purposeBatchOutput
		*of.id = &f.ID
		kept = append(kept, of.draft)
	}
	return kept
}
