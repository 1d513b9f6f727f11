package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"serve/audit"
	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/dialect"
	"serve/service"
)

// A request is recorded in one place: its ledger. The exchange holds the end of each answer back until the record of it
// is durable; see held.go.

// clientRequestID is the header with a client's own id of a request.
const clientRequestID = "X-Client-Request-Id"

// ledger is what is recorded of one request. It implements service.Auditor.
type ledger struct {
	server   *Server
	log      audit.Recorder
	x        *exchange
	address  string
	method   string
	route    string
	clientID string

	mu       sync.Mutex
	begun    bool
	ended    bool
	tools    []string
	message  string
	pictures []string
	works    []*workRecord

	body       []byte      // of the request, until it is captured
	transcript *transcript // nil without captures, and if it could not be begun
	missing    string      // why it could not
}

// workRecord is a work as it goes on.
type workRecord struct {
	audit.Work
	stream  *engine.Stream
	answers []*audit.AnswerDigest // of the choices
}

var _ service.Auditor = (*ledger)(nil)

// newLedger returns the ledger of an exchange; nil for a server without an audit log.
func (s *Server) newLedger(x *exchange, c *gin.Context) *ledger {
	if s.opts.Audit == nil {
		return nil
	}
	return &ledger{
		server:   s,
		log:      s.opts.Audit,
		x:        x,
		address:  address(c.Request),
		method:   c.Request.Method,
		route:    c.FullPath(),
		clientID: audit.ClientID(c.Request.Header.Get(clientRequestID)),
	}
}

// isKept reports whether the request is recorded even if it is answered and no model has computed anything.
func (l *ledger) isKept() bool {
	e := &l.x.endpoint
	return e.Handle != nil && (e.Right == dialect.RightUse || e.Right == dialect.RightManage)
}

// audited records a request, and refuses it if that is not possible. The end of the answer is held back until the
// record is durable.
func (s *Server) audited(c *gin.Context) {
	x := exchangeOf(c)
	l := x.ledger
	if l == nil {
		return
	}
	if l.isKept() {
		x.hold = true
		if state := s.auditState(); state.Refuses() {
			s.fail(c, service.Unrecorded())
			c.Abort()
			x.release()
			return
		}
	}
	c.Next()

	if !x.call.Detached() {
		if e := l.Ends(nil, nil); e != nil {
			if !x.discard() {
				panic(http.ErrAbortHandler) // the client must not take what it has for the answer
			}
			s.fail(c, e)
		}
	}
	x.release()
}

// record returns a record of the request.
func (l *ledger) record(kind audit.Kind) *audit.Record {
	call := l.x.call
	r := &audit.Record{
		Kind:     kind,
		ID:       l.x.id,
		ClientID: l.clientID,
		Address:  l.address,
		Method:   l.method,
		Route:    l.route,
		API:      l.x.api,
	}
	switch p := call.Principal; {
	case p != nil:
		r.Who = &audit.Who{Key: p.ID, Name: p.Name, Tenant: p.Tenant}
	case strings.HasPrefix(call.Client, clientAddress):
		if call.Tenant != "" {
			r.Who = &audit.Who{Tenant: call.Tenant}
		}
	default:
		r.Who = &audit.Who{Client: call.Client, Tenant: call.Tenant}
	}
	return r
}

// Reads implements service.Auditor, as do the methods after it.
func (l *ledger) Reads(c *prompt.Conversation) {
	last := audit.NewText(l.log.Digest(audit.OfMessage))
	_, _ = last.Write([]byte(c.Messages[len(c.Messages)-1].Content))
	var pictures []string
	for i := range c.Messages {
		for _, image := range c.Messages[i].Images {
			pictures = append(pictures, l.picture(image.URL))
		}
	}
	var tools []string
	for i := range c.Tools.List {
		tools = append(tools, c.Tools.List[i].Name)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.message = last.String()
	l.pictures = pictures
	l.tools = tools
}

// Begins writes the first record of the request, with its first works.
func (l *ledger) Begins(ctx context.Context, model *pool.Lease, works []service.Asked) (first int, err error) {
	sum := l.server.modelSum(ctx, model.Model)
	list := make([]*workRecord, len(works))
	for i := range works {
		list[i] = l.newWork(model, &works[i], sum)
	}

	l.mu.Lock()
	first = len(l.works)
	l.works = append(l.works, list...)
	isFirst := !l.begun
	l.begun = true
	if len(list) > 0 {
		list[0].Pictures = l.pictures
	}
	r := l.record(audit.RequestBegin)
	l.fill(r)
	l.mu.Unlock()
	if !isFirst {
		return first, nil // it is at work already
	}
	err = l.captures()
	if err == nil {
		err = l.log.Append(r)
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.begun = false
		l.transcript.discard()
		l.transcript = nil
		return first, service.Unrecorded()
	}
	return first, nil
}

// fill adds the works so far to a record. The caller holds the mutex.
func (l *ledger) fill(r *audit.Record) {
	r.Tools = l.tools
	r.Digests = audit.DigestVersion
	r.Message = l.message
	for _, w := range l.works {
		r.Work = append(r.Work, w.Work)
	}
}

// newWork describes a work before it begins.
func (l *ledger) newWork(model *pool.Lease, a *service.Asked, sum string) *workRecord {
	facts := model.Engine.Model()
	w := &workRecord{Work: audit.Work{Model: model.ID, SHA256: sum, Engine: facts.Build}}
	pieces := facts.Special
	switch {
	case a.Request != nil:
		w.In = len(a.Request.Prompt)
		w.Parameters = parameters(a.Request)
		w.Prompts = []string{l.prompt(pieces, a.Request.Prompt)}
		for range max(a.Request.Choices, 1) {
			w.answers = append(w.answers, audit.NewAnswerDigest(l.log.Digest))
		}
	default:
		for _, input := range a.Inputs {
			w.In += len(input)
			w.Prompts = append(w.Prompts, l.prompt(pieces, input))
		}
		for _, text := range a.Texts {
			d := audit.NewText(l.log.Digest(audit.OfPrompt))
			_, _ = d.Write([]byte(text))
			w.Prompts = append(w.Prompts, d.String())
		}
	}
	return w
}

// prompt returns the digest of a prompt's text as the model reads it, with its control tokens and without its pictures.
func (l *ledger) prompt(pieces [][]byte, tokens []engine.Token) string {
	d := audit.NewText(l.log.Digest(audit.OfPrompt))
	for _, t := range tokens {
		if t >= 0 && int(t) < len(pieces) {
			_, _ = d.Write(pieces[t])
		}
	}
	return d.String()
}

// Answers tells which stream a work has.
func (l *ledger) Answers(work int, stream *engine.Stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.works[work].stream = stream
}

// Drew adds to the digests of a work's answers.
func (l *ledger) Drew(work int, e *engine.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.works[work].answers
	if e.Choice >= len(list) {
		return
	}
	answer := list[e.Choice]
	answer.Say(e.Text)
	answer.Think(e.Reasoning)
	for i := range e.ToolCalls {
		c := &e.ToolCalls[i]
		answer.Call(c.Index, c.Name, c.Arguments)
	}
}

// Computed adds what an embedding or scores have taken.
func (l *ledger) Computed(work, tokens int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.works[work].In = tokens
	if err != nil {
		l.works[work].Error = l.code(err)
	}
}

// Acted records what was done to the server's models.
func (l *ledger) Acted(a service.Act) error {
	r := l.record(audit.Kind(a.Kind))
	r.Object = a.Object
	r.Detail = a.Detail
	if a.Err != nil {
		r.Error = l.code(a.Err)
	}
	if l.log.Append(r) != nil {
		return service.Unrecorded()
	}
	return nil
}

// code returns the API's code for a failure, or else its kind in words.
func (l *ledger) code(err error) string { return service.Fault(err, "").Kind.String() }

// end ends the ledger, and returns the last record. It returns nil if there was one.
func (l *ledger) end() *audit.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	l.ended = true
	l.body = nil
	kind := audit.Request
	if l.begun {
		kind = audit.RequestEnd
	}
	r := l.record(kind)
	for _, w := range l.works {
		w.finish(l)
	}
	l.fill(r)
	return r
}

// Ends writes the last record of the request.
func (l *ledger) Ends(failed *fault.Error, last []byte) *fault.Error {
	r := l.end()
	if r == nil {
		return nil
	}
	begun := r.Kind == audit.RequestEnd

	r.Duration = float64(time.Since(l.x.start).Microseconds()) / 1000
	if l.x.call.Detached() {
		r.Detached = true // the answer belongs to another goroutine, or has been sent
	} else {
		r.Status = l.x.Status()
		r.Bytes = l.x.bytes()
		if failed == nil {
			failed = l.x.failed
		}
	}
	if failed != nil {
		r.Error = failed.Kind.String()
	}
	if !begun && r.Status >= http.StatusBadRequest {
		if l.isKept() || isRefusal(r.Status) {
			l.log.Refused(r)
		}
		return nil
	}
	if !begun && !l.isKept() {
		return nil
	}
	return l.append(r, last)
}

// append writes the last record of a request, whose answer is captured before.
func (l *ledger) append(r *audit.Record, last []byte) *fault.Error {
	var unkept error
	if r.Kind == audit.RequestEnd {
		if r.Capture, unkept = l.seals(last); unkept != nil {
			r.Error = fault.Unrecorded.String()
			if !r.Detached && !l.x.Written() {
				r.Status = http.StatusServiceUnavailable
			}
		}
	}
	if err := l.log.Append(r); err != nil {
		l.transcript.discard()
		return service.Unrecorded()
	}
	if unkept != nil {
		return service.Unrecorded()
	}
	return nil
}

// isRefusal reports whether a status says that a client may not do what it has asked for.
func isRefusal(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests
}

// finish adds what is known of a work at its end.
func (w *workRecord) finish(l *ledger) {
	if w.stream == nil {
		return
	}
	usage := w.stream.Usage()
	times := w.stream.Timeline()
	w.In = max(usage.Prompt, w.In)
	w.Cached = usage.Cached
	w.Out = usage.Completion
	w.Reproducible = w.stream.Reproducible()
	w.Finish = nil
	for _, f := range times.Finishes {
		w.Finish = append(w.Finish, string(f))
	}
	w.Answers = nil
	for _, d := range w.answers {
		w.Answers = append(w.Answers, d.Answer())
	}
	if times.Err != nil {
		w.Error = l.code(times.Err)
	}
}

// parameters returns how the tokens of a request are drawn, as JSON: what is not the default, and what everybody asks
// for.
func parameters(r *engine.Request) json.RawMessage {
	p := map[string]any{"seed": r.Sampling.Seed}
	if r.MaxTokens > 0 {
		p["max_tokens"] = r.MaxTokens
	}

	if r.Choices > 1 {
		p["n"] = r.Choices
	}
	if len(r.Stop) > 0 {
		p["stop_strings"] = len(r.Stop)
	}

	if r.LogProbs {
		p["top_logprobs"] = r.Top
	}
	if len(r.Sampling.LogitBias) > 0 {
		p["logit_bias"] = r.Sampling.LogitBias
	}

	for i := range engine.Parameters {
		parameter := &engine.Parameters[i]
		value := parameter.Get(&r.Sampling)
		if always := parameter.Name == "temperature" || parameter.Name == "top_p"; always || value != parameter.Default {
			p[parameter.Name] = value
		}
	}

	b, err := json.Marshal(p)
	if err != nil {
		return nil // a number that JSON does not have
	}

	return b
}

// auditState says how the log and the captures are.
func (s *Server) auditState() audit.State {
	state := s.opts.Audit.State()
	if c := s.opts.Captures; c != nil && state.Failing == nil {
		state.Failing = c.Failing()
		state.Continues = c.Continues()
	}
	return state
}
