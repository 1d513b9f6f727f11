package replay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"

	"serve/audit"
	"serve/dial"
	"serve/flagset"
	"serve/hub"
	"serve/registry"
	"serve/server/ops"
	"serve/terminal"
)

// ErrDiffers means that an answer is not the one that was recorded.
var ErrDiffers = errors.New("the answer differs")

// ErrModel means that a server's model is not the one that a record has.
var ErrModel = errors.New("the model is another one")

// Replay is the command serve replay.
type Replay struct {
	Terminal *terminal.Terminal
	Dialer   func() *dial.Dialer
	Lookup   func(string) string // a variable of the environment

	audit    string
	captures string
	identity string
	key      string
	url      string
	json     bool
}

// Declare declares the command's flags.
func (c *Replay) Declare(f flagset.Set) {
	f.Text(&c.audit, "audit", "", "`folder` of the audit log that has the request")
	f.Text(&c.identity, "identity", "", "`file` with the age private key that decrypts the captures")
	f.Text(&c.captures, "capture-dir", "", "`folder` of the captures; by default captures in the folder of the audit log")
	f.Text(&c.key, "public-key", "",
		"verifier `key` of the log, or the file that has it; by default key.pub in the folder")
	f.Text(&c.url, "url", "", "`URL` of the server to ask; by default one on this machine that has the model")
	f.JSON(&c.json)
}

// Result is how an answer compares with the one that was recorded.
type Result struct {
	ID     string `json:"id"`
	Server string `json:"server"`
	Same   bool   `json:"same"`
	// Difference is where the answers begin to differ; null if they are the same.
	Difference *Difference `json:"difference"`
	// Reproducible says that the answer was made so that it has to be the same on the same model, build and kind of
	// processor.
	Reproducible bool `json:"reproducible"`
	// Other is what is not the same as when the record was made, or is not known to be.
	Other []string `json:"other"`
	Bytes int      `json:"bytes"` // that were compared
}

// Run asks a server again what a request has asked.
func (c *Replay) Run(ctx context.Context, id string) error {
	record, t, err := c.open(id)
	if err != nil {
		return err
	}
	client, err := c.connect(ctx, record)
	if err != nil {
		return err
	}

	result := &Result{
		ID:           record.ID,
		Server:       client.URL.Redacted(),
		Reproducible: isReproducible(record),
		Other:        []string{},
	}
	if err := c.compareModels(ctx, client, record, result); err != nil {
		return err
	}
	if result.Reproducible {
		t.Header.Set("X-Serve-Reproducible", "true")
	}
	now, err := client.ask(ctx, t, record)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	c.compareServers(ctx, client, record, result)

	was := fold(t.Answer)
	result.Difference = differ(was, fold(now))
	result.Same = result.Difference == nil
	for _, p := range was.parts {
		result.Bytes += len(p.value)
	}
	if !result.Same {
		client.locate(ctx, modelOf(record), result.Difference)
	}
	return c.report(result)
}

// open reads the record of a request and its capture.
func (c *Replay) open(id string) (*audit.Record, *Transcript, error) {
	if c.audit == "" || c.identity == "" {
		return nil, nil, flagset.Usagef("--audit and --identity are required")
	}
	dir := hub.ExpandHome(c.audit, c.Lookup)
	identities, err := audit.ReadIdentities(hub.ExpandHome(c.identity, c.Lookup))
	if err != nil {
		return nil, nil, err
	}
	record, err := audit.End(dir, c.key, id)
	if err != nil {
		return nil, nil, err
	}

	captures := cmp.Or(hub.ExpandHome(c.captures, c.Lookup), filepath.Join(dir, audit.CapturesFolder))
	f, err := audit.OpenCaptureOf(record, captures, identities...)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	t, err := ReadTranscript(f)
	switch {
	case err != nil:
		return nil, nil, err
	case t.Answer == nil:
		return nil, nil, fmt.Errorf("%w of the answer to %s", audit.ErrNoCapture, id)
	}

	var body struct{ Conversation any }
	if json.Unmarshal(t.Body, &body) == nil && body.Conversation != nil {
		return nil, nil, fmt.Errorf("the request %s went on with a conversation, which another answer would be added to", id)
	}
	return record, t, nil
}

// modelOf returns the model of a record's first work.
func modelOf(r *audit.Record) string {
	if len(r.Work) == 0 {
		return ""
	}
	return r.Work[0].Model
}

// isReproducible reports whether all answers of a request have to be the same again.
func isReproducible(r *audit.Record) bool {
	return len(r.Work) > 0 && !slices.ContainsFunc(r.Work, func(w audit.Work) bool { return !w.Reproducible })
}

// connect finds the server.
func (c *Replay) connect(ctx context.Context, record *audit.Record) (*Asker, error) {
	d := c.Dialer()
	server := registry.Server{URL: c.url}
	key, err := d.Key()
	if c.url == "" && err == nil {
		server, key, err = d.Find(ctx, modelOf(record))
	}
	switch {
	case err != nil:
		return nil, err
	case server.URL == "":
		return nil, fmt.Errorf("no server on this machine has the model %s; start one, or name it by --url", modelOf(record))
	}
	u, err := registry.ParseURL(server.URL)
	if err != nil {
		return nil, flagset.Usagef("--url: %w", err)
	}
	transport, err := d.Transport(server, key)
	if err != nil {
		return nil, err
	}
	return &Asker{URL: u, Key: key.Secret, Transport: transport}, nil
}

// compareModels compares the hashes of the server's models with the record's.
func (c *Replay) compareModels(ctx context.Context, client *Asker, record *audit.Record, result *Result) error {
	sums, err := client.sums(ctx)
	if err != nil {
		return fmt.Errorf("ask the server for its models: %w", err)
	}
	for i := range record.Work {
		w := &record.Work[i]
		sum := sums[w.Model]
		switch {
		case sum == "" || w.SHA256 == "":
			result.other("it is not known whether the model %s is the same: the hash of one is missing", w.Model)
		case sum != w.SHA256:
			return fmt.Errorf("%w: the SHA-256 of %s is %s, and the record has %s", ErrModel, w.Model, sum, w.SHA256)
		}
	}
	return nil
}

// other notes what is not the same, once.
func (r *Result) other(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.Other, text) {
		r.Other = append(r.Other, text)
	}
}

// compareServers compares the build and the processor of the server, which has answered, with those of the one that
// wrote the record.
func (c *Replay) compareServers(ctx context.Context, client *Asker, record *audit.Record, result *Result) {
	answer, err := client.do(ctx, http.MethodGet, "/status", nil, nil)
	var status ops.Status
	if err != nil || answer.Status != http.StatusOK || json.Unmarshal(answer.Body, &status) != nil {
		result.other("the server's build and processor are not known: its status needs a key with the scope metrics")
		return
	}

	start := c.started(record)
	for _, s := range []struct{ what, was, is string }{
		{"version of serve", start["version"], status.Version},
		{"processor", start["processor"], status.Processor},
	} {
		if s.was != s.is {
			result.other("the %s was %s, and is %s", s.what, cmp.Or(s.was, "not recorded"), s.is)
		}
	}
	for i := range record.Work {
		w := &record.Work[i]
		for _, m := range status.Models {
			if m.ID == w.Model && m.Engine != w.Engine {
				result.other("the engine of %s was %s, and is %s", w.Model, cmp.Or(w.Engine, "not recorded"),
					cmp.Or(m.Engine, "not in memory"))
			}
		}
	}
}

// started returns what is recorded of the start of the server that wrote a record.
func (c *Replay) started(record *audit.Record) (detail map[string]string) {
	for r, err := range audit.Records(hub.ExpandHome(c.audit, c.Lookup)) {
		if err != nil || r.Seq >= record.Seq {
			break
		}
		if r.Kind == audit.ServerStart {
			detail = r.Detail
		}
	}
	return detail
}

// report tells the user.
func (c *Replay) report(r *Result) error {
	if c.json {
		if err := c.Terminal.PrintJSON(r); err != nil {
			return err
		}
	} else {
		for _, text := range r.Other {
			c.Terminal.Note("%s", terminal.Printable(text))
		}
	}
	if r.Same {
		if !c.json {
			c.Terminal.Note("the answer to %s is the same, byte for byte (%d bytes compared)", r.ID, r.Bytes)
		}
		return nil
	}

	d := r.Difference
	if !c.json {
		where := ""
		if d.Token >= 0 {
			where = fmt.Sprintf(" (token %d)", d.Token)
		}
		c.Terminal.Note("%s differs from byte %d%s on", d.Part, d.Byte, where)
		c.Terminal.Note("it was: %q", d.Was)
		c.Terminal.Note("it is:  %q", d.Is)
	}
	return fmt.Errorf("%w, %s", ErrDiffers, r.why())
}

// why says what a difference may mean.
func (r *Result) why() string {
	switch {
	case !r.Reproducible:
		return "which may be a near-tie: it was not made with --reproducible, and depended on what was computed beside it"
	case len(r.Other) > 0:
		return "which may be since not all is as it was"
	}
	return "although it was to be reproducible, and the model, the build and the processor are the same"
}
