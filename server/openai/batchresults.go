package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"serve/archive"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// outputFileID returns the id of a file of a batch's results. It is known before there are any, so that a
// later process finds them.
func outputFileID(batch, kind string) string {
	return "file-" + strings.TrimPrefix(batch, "batch_") + "_" + kind
}

// batchUsage is the tokens of a batch.
type batchUsage struct {
	InputTokens        int `json:"input_tokens"`
	InputTokensDetails struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"input_tokens_details"`
	OutputTokens        int `json:"output_tokens"`
	OutputTokensDetails struct {
		ReasoningTokens int `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
	TotalTokens int `json:"total_tokens"`
}

// add adds the usage in the body of an answer, as chats or responses tell it.
func (u *batchUsage) add(body json.RawMessage) {
	var answer struct {
		Usage struct {
			batchUsage
			PromptTokens     int `json:"prompt_tokens"`
			CompletionTokens int `json:"completion_tokens"`
			PromptDetails    struct {
				CachedTokens int `json:"cached_tokens"`
			} `json:"prompt_tokens_details"`
			CompletionDetails struct {
				ReasoningTokens int `json:"reasoning_tokens"`
			} `json:"completion_tokens_details"`
		} `json:"usage"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return
	}

	a := &answer.Usage
	u.InputTokens += a.InputTokens + a.PromptTokens
	u.InputTokensDetails.CachedTokens += a.InputTokensDetails.CachedTokens + a.PromptDetails.CachedTokens
	u.OutputTokens += a.OutputTokens + a.CompletionTokens
	u.OutputTokensDetails.ReasoningTokens += a.OutputTokensDetails.ReasoningTokens +
		a.CompletionDetails.ReasoningTokens
	u.TotalTokens += a.TotalTokens
}

// resultLine is a line of a batch's results.
type resultLine struct {
	ID       string          `json:"id"`
	CustomID string          `json:"custom_id"`
	Response *resultResponse `json:"response"`
	Error    *resultError    `json:"error"`
}

type resultResponse struct {
	StatusCode int             `json:"status_code"`
	RequestID  string          `json:"request_id"`
	Body       json.RawMessage `json:"body"`
}

type resultError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func newResult(id string) *resultLine {
	return &resultLine{ID: "batch_req_" + wire.RandomID(), CustomID: id}
}

// failed reports whether the result belongs to the errors.
func (r *resultLine) failed() bool { return r.Response == nil || r.Response.StatusCode >= 300 }

// finished is the ids of the lines that are done.
type finished struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (f *finished) has(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ids[id]
}

func (f *finished) add(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids[id] = true
}

// restore opens the drafts of the results, and counts what an earlier process has written to them.
func (j *job) restore() (*finished, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	files := j.batches.api.opts.Files
	var err error
	if j.results, err = files.Draft(j.record.Output, j.record.Owner); err != nil {
		return nil, err
	}
	if j.errors, err = files.Draft(j.record.Errors, j.record.Owner); err != nil {
		return nil, err
	}

	done := &finished{ids: map[string]bool{}}
	counts := &j.state.Body.RequestCounts
	counts.Completed = 0
	counts.Failed = 0
	j.state.Body.Usage = batchUsage{}
	for _, draft := range []*archive.Draft{j.results, j.errors} {
		if err := j.restoreDraft(draft, done); err != nil {
			return nil, err
		}
	}
	return done, nil
}

// restoreDraft counts the results in a draft. A line that was not written to its end is dropped: it is
// computed again.
func (j *job) restoreDraft(draft *archive.Draft, done *finished) error {
	lines := newLineReader(draft.Content(), maxResult)
	whole := int64(0)
	for {
		text, ended, err := lines.next()
		var result resultLine
		if err != nil || !ended || json.Unmarshal(text, &result) != nil || result.CustomID == "" {
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return draft.Truncate(whole)
		}
		whole = lines.bytes
		done.add(result.CustomID)
		j.count(&result)
	}
}

// maxResult limits a line of the results, in bytes. An answer never has as many.
const maxResult = 1 << 30

// count counts a result. The caller holds the mutex.
func (j *job) count(r *resultLine) {
	if r.failed() {
		j.state.Body.RequestCounts.Failed++
		return
	}
	j.state.Body.RequestCounts.Completed++
	j.state.Body.Usage.add(r.Response.Body)
}

// write writes results to the disk. A line is done when this has returned.
func (j *job) write(done *finished, results ...*resultLine) error {
	j.mu.Lock()
	defer j.mu.Unlock()

	var written []*archive.Draft
	for _, r := range results {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(r); err != nil {
			return err
		}
		draft := j.results
		if r.failed() {
			draft = j.errors
		}
		if _, err := draft.Write(text.Bytes()); err != nil {
			return err
		}
		if !slices.Contains(written, draft) {
			written = append(written, draft)
		}
		done.add(r.CustomID)
		j.count(r)
	}

	for _, draft := range written {
		if err := draft.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// computeLine computes a line until there is a result, and writes it. If the batch or the server stops
// before, the line has none.
func (j *job) computeLine(ctx context.Context, line *batchLine, done *finished) {
	for wait := time.Second; ; wait = min(2*wait, longestPause) {
		answer := j.attempt(ctx, line)
		if answer == nil || ctx.Err() != nil && answer.status != http.StatusOK {
			return
		}
		if answer.changed {
			continue
		}
		if answer.temporary() {
			if !j.pause(ctx, answer.retryAfter(wait)) {
				return
			}
			continue
		}

		result := newResult(line.id)
		result.Response = &resultResponse{
			StatusCode: answer.status,
			RequestID:  answer.header.Get(dialect.RequestID),
			Body:       answer.text.Bytes(),
		}
		if err := j.write(done, result); err != nil {
			j.cancel(err) // the batch cannot go on
		}
		return
	}
}

// attempt has a line computed in one of the places that all batches share. It returns nil if the batch or the server
// stops before there is one.
func (j *job) attempt(ctx context.Context, line *batchLine) *lineAnswer {
	if !j.enter(ctx, j.batches.places) {
		return nil
	}
	defer func() { <-j.batches.places }() // also of a line that is to be repeated: others do not wait for it
	return j.perform(ctx, line)
}

// enter waits for a place, which the caller gives back. It returns false if the batch or the server stops before.
func (j *job) enter(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-j.batches.draining:
	}
	return false
}

// longestPause is the longest time until a line is repeated, whatever its answer says: then it is seen whether its key
// is still valid.
const longestPause = time.Minute

// pause waits. It returns false if the batch or the server stops before.
func (j *job) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-j.batches.draining:
	}
	return false
}

// perform has the server answer the request in a line, as it answers those of clients.
func (j *job) perform(ctx context.Context, line *batchLine) *lineAnswer {
	answer := &lineAnswer{header: http.Header{}}
	api := j.batches.api
	if e := line.refuse(); e != nil {
		api.Fail(answer, e)
		return answer
	}

	call := &service.Call{
		Client: j.record.Owner.Client,
		Tenant: j.record.Owner.Tenant,
		Yields: true,
	}
	ctx = service.WithCall(ctx, call)
	url := "http://localhost" + j.body().Endpoint
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(line.body))
	if err != nil {
		api.Fail(answer, service.Fault(err, ""))
		return answer
	}
	r.Header.Set("Content-Type", "application/json")
	api.opts.Perform(answer, r)
	answer.changed = answer.status == http.StatusUnauthorized &&
		call.Principal != nil && call.Principal.Context().Err() != nil
	return answer
}

// refuse returns the fault for a request that only makes sense with a client that waits.
func (l *batchLine) refuse() *fault.Error {
	name := ""
	switch o := l.options(); {
	case string(o.Stream) == "true":
		name = "stream"
	case string(o.Background) == "true":
		name = "background"
	default:
		return nil
	}
	return fault.New(fault.Unsupported, name, "Unsupported parameter: '%s' cannot be used in a batch.", name)
}

// expire writes an error for each line that is not done.
func (j *job) expire(done *finished) error {
	content, err := j.input(context.Background())
	if err != nil {
		return err
	}
	defer content.Close()

	var results []*resultLine
	lines := newLineReader(content, j.maxLine())
	for {
		line, err := j.nextLine(lines, done)
		if err != nil {
			return err
		}
		if line == nil {
			return j.write(done, results...)
		}
		result := newResult(line.id)
		result.Error = &resultError{
			Code:    "batch_expired",
			Message: "This request could not be executed before the completion window expired.",
		}
		results = append(results, result)
	}
}

// lineAnswer is the http.ResponseWriter of a line.
type lineAnswer struct {
	header http.Header
	status int
	text   bytes.Buffer
	// changed says that the key was valid when the line began, and was then changed or revoked. Repeating the line shows
	// which, and what the key may do now.
	changed bool
}

// Header implements http.ResponseWriter, as do the methods after it.
func (a *lineAnswer) Header() http.Header { return a.header }

// WriteHeader notes the status.
func (a *lineAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write keeps the answer.
func (a *lineAnswer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.text.Write(b)
}

// temporary reports whether the request is to be repeated later: the queue is full, the model is not in memory, or the
// key has used what it may for now.
func (a *lineAnswer) temporary() bool {
	if a.header.Get(wire.ShouldRetry) == "false" {
		return false
	}
	return a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable
}

// retryAfter returns how long to wait before that.
func (a *lineAnswer) retryAfter(otherwise time.Duration) time.Duration {
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		return otherwise
	}
	return min(time.Duration(seconds)*time.Second, longestPause)
}
