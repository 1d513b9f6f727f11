package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says what a record is about.
type Kind string

// The kinds of records.
const (
	// RequestBegin is written before a model computes anything for a request, and RequestEnd before the last byte of its
	// answer is sent.
	RequestBegin Kind = "request.begin"
	RequestEnd   Kind = "request.end"
	// Request is a request for which no model computed anything.
	Request Kind = "request"
	// RequestsRefused counts refused requests of one sender.
	RequestsRefused Kind = "requests.refused"
	// RequestLost is a request without an end, found at the next start.
	RequestLost Kind = "request.lost"

	ServerStart Kind = "server.start"
	ServerStop  Kind = "server.stop"

	KeyCreated Kind = "key.created"
	KeyRevoked Kind = "key.revoked"
	KeyRotated Kind = "key.rotated"
	KeyChanged Kind = "key.changed"
	KeyRemoved Kind = "key.removed"
	KeyExpired Kind = "key.expired"

	ModelPulled   Kind = "model.pulled"
	ModelLoaded   Kind = "model.loaded"
	ModelUnloaded Kind = "model.unloaded"
	ModelNamed    Kind = "model.named"
	ModelDeleted  Kind = "model.deleted"

	EngineRestarted Kind = "engine.restarted"
	EngineFailed    Kind = "engine.failed"

	// Connection is one that the server has made, or was kept from making.
	Connection Kind = "connection"

	LogRecovered Kind = "log.recovered" // what was written of records that were not acknowledged is gone
	LogResumed   Kind = "log.resumed"   // records could not be written for a while
	LogPruned    Kind = "log.pruned"

	CapturesPruned Kind = "captures.pruned"
)

// Record is one entry of the log. Texts of clients are not in it. What is unknown or does not apply is zero.
type Record struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`

	ID       string `json:"id,omitempty"`        // of the request, ours
	ClientID string `json:"client_id,omitempty"` // X-Client-Request-Id
	Who      *Who   `json:"who,omitempty"`
	Address  string `json:"address,omitempty"`
	Method   string `json:"method,omitempty"`
	Route    string `json:"route,omitempty"`
	API      string `json:"api,omitempty"`

	Tools   []string `json:"tools,omitempty"`          // names of those that the model was offered
	Digests int      `json:"digest_version,omitempty"` // of the digests; 0 stands for 1
	Message string   `json:"message,omitempty"`        // digest of the conversation's last message
	Work    []Work   `json:"work,omitempty"`

	Capture *Captured `json:"capture,omitempty"` // of the end of a request; nil without captures

	Status   int     `json:"status,omitempty"`
	Error    string  `json:"error,omitempty"`       // why it failed: a code, or for events a text
	Duration float64 `json:"duration_ms,omitempty"` // since the request came
	Bytes    int64   `json:"bytes,omitempty"`       // of the answer's body; of a stream those before its end
	Detached bool    `json:"detached,omitempty"`    // the work went on after the answer
	Stored   string  `json:"stored,omitempty"`      // id under which the answer is stored

	Object string            `json:"object,omitempty"`
	Count  int64             `json:"count,omitempty"`
	Since  *time.Time        `json:"since,omitempty"`
	Detail map[string]string `json:"detail,omitempty"`
}

// Who is who asked.
type Who struct {
	Key    string `json:"key,omitempty"` // id of the API key
	Name   string `json:"name,omitempty"`
	Tenant string `json:"tenant,omitempty"`
	Client string `json:"client,omitempty"` // how a client without a key is told from others
}

// Work is what a model did for a request.
type Work struct {
	Model      string          `json:"model"`
	SHA256     string          `json:"sha256,omitempty"` // of the model's weights
	Parameters json.RawMessage `json:"parameters,omitempty"`
	Pictures   []string        `json:"pictures,omitempty"` // SHA-256 of the files, with the key of the digests
	Prompts    []string        `json:"prompts,omitempty"`  // digests of what the model read
	In         int             `json:"tokens_in,omitempty"`
	Cached     int             `json:"tokens_cached,omitempty"` // of In
	Out        int             `json:"tokens_out,omitempty"`
	Answers    []Answer        `json:"answers,omitempty"` // digests of what it wrote, for each choice
	Finish     []string        `json:"finish,omitempty"`
	Error      string          `json:"error,omitempty"`
	// Engine is the build of the engine and its kernels, with which an answer was computed.
	Engine string `json:"engine,omitempty"`
	// Reproducible says that the answer depends on nothing but its request, the model, the engine and the kind of
	// processor.
	Reproducible bool `json:"reproducible,omitempty"`
}

// Bounds of what a record holds.
const (
	maxText = 512     // bytes of each text
	maxList = 64      // entries of each list
	maxLine = 1 << 20 // bytes of a record

	maxParameters = 8 << 10 // bytes
	// MaxClientID is how much is kept of a client's own id of a request, in characters.
	MaxClientID = 128
)

// cut returns a text that is no longer than it may be, in valid UTF-8.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// ClientID returns as much of a client's own id of a request as is kept.
func ClientID(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	n := 0
	for i := range s {
		if n == MaxClientID {
			return s[:i]
		}
		n++
	}
	return s
}

func cutAll(list []string) []string {
	if len(list) > maxList {
		more := len(list) - maxList + 1
		list = append(list[:maxList-1:maxList-1], fmt.Sprintf("and %d more", more))
	}
	for i, s := range list {
		if short := cut(s); short != s {
			list = append([]string(nil), list...)
			list[i] = short
		}
	}
	return list
}

// rest returns works that there is no room for as one.
func rest(list []Work) Work {
	all := Work{Model: list[0].Model, SHA256: list[0].SHA256, Finish: []string{fmt.Sprintf("%d works", len(list))}}
	for i := range list {
		all.In += list[i].In
		all.Cached += list[i].Cached
		all.Out += list[i].Out
	}
	return all
}

// bound shortens what is too long.
func (r *Record) bound() {
	for _, p := range []*string{
		&r.ID, &r.ClientID, &r.Address, &r.Method, &r.Route, &r.API, &r.Message, &r.Error, &r.Stored, &r.Object,
	} {
		*p = cut(*p)
	}
	if r.Who != nil {
		who := *r.Who
		for _, p := range []*string{&who.Key, &who.Name, &who.Tenant, &who.Client} {
			*p = cut(*p)
		}
		r.Who = &who
	}

	if r.Capture != nil {
		r.Capture.Missing = cut(r.Capture.Missing)
	}
	r.Tools = cutAll(r.Tools)
	if len(r.Work) > maxList {
		r.Work = append(r.Work[:maxList-1:maxList-1], rest(r.Work[maxList-1:]))
	}
	for i := range r.Work {
		w := &r.Work[i]
		w.Model = cut(w.Model)
		w.SHA256 = cut(w.SHA256)
		w.Error = cut(w.Error)
		w.Engine = cut(w.Engine)
		if len(w.Parameters) > maxParameters || !json.Valid(w.Parameters) {
			w.Parameters = nil
		}
		for _, list := range []*[]string{&w.Pictures, &w.Prompts, &w.Finish} {
			*list = cutAll(*list)
		}
		if more := len(w.Answers) - maxList + 1; more > 1 {
			w.Answers = append(w.Answers[:maxList-1:maxList-1], Answer{Text: fmt.Sprintf("and %d more", more)})
		}
	}

	if len(r.Detail) > 0 {
		detail := make(map[string]string, len(r.Detail))
		for k, v := range r.Detail {
			if len(detail) < maxList {
				detail[cut(k)] = cut(v)
			}
		}
		r.Detail = detail
	}
}

// recordStart is what the line of a record begins with, and no other line.
const recordStart = `{"seq":`

// encode returns the record's line, without its end. JSON escapes what could end a line.
func (r *Record) encode() ([]byte, error) {
	r.bound()
	line, err := json.Marshal(r)
	if err == nil && len(line) > maxLine {
		// Escapes have made it so. What is told of the work is the least that there is to say.
		for i := range r.Work {
			w := &r.Work[i]
			r.Work[i] = Work{Model: w.Model, SHA256: w.SHA256, In: w.In, Cached: w.Cached, Out: w.Out}
		}
		line, err = json.Marshal(r)
	}
	if err != nil {
		return nil, fmt.Errorf("encode a record: %w", err)
	}
	return line, nil
}

// ParseRecord reads the line of a record.
func ParseRecord(line []byte) (*Record, error) {
	if !bytes.HasPrefix(line, []byte(recordStart)) {
		return nil, errors.New("it is not a record")
	}
	if len(line) > maxLine {
		return nil, errors.New("it is too long")
	}
	r := new(Record)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("it is not valid: %w", err)
	}
	return r, nil
}

// Models returns the names of the models that a record is about.
func (r *Record) Models() (names []string) {
	for i := range r.Work {
		names = append(names, r.Work[i].Model)
	}
	return names
}
