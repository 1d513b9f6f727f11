// Package auditor is serve audit, and what serve --audit opens: the log of package audit with its flags, for terminals.
package auditor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"serve/audit"
	"serve/egress"
	"serve/flagset"
	"serve/machine"
)

// Flags are those of a server that has an audit log.
type Flags struct {
	dir      string
	failure  string
	syslog   string
	syslogCA string
	capture  string
	captures string
	all      flagset.Set // of the server
}

// continues is the value of --audit-failure that lets work go on.
const continues = "continue"

// Declare declares the flags.
func (a *Flags) Declare(f flagset.Set) {
	a.all = f
	f.Text(&a.dir, "audit", "", "`folder` of an audit log, made by serve audit init, in which requests and "+
		"administration are recorded; by default nothing is")
	f.Choice(&a.failure, "audit-failure", "refuse", []string{"refuse", continues},
		"what to do while the audit log cannot be written: refuse requests with 503 (refuse), or answer them, say so in "+
			"/readyz, /status and the log, and record later how many are missing (continue)")
	f.Text(&a.syslog, "audit-syslog", "", "`host:port` of a syslog collector (RFC 5424 over TLS) that gets the records, "+
		"too; not with --offline")
	f.Text(&a.syslogCA, "audit-syslog-ca", "",
		"PEM `file` of the authorities of the collector's certificate; by default the system's")
	a.declareCaptures(f)
}

// declareCaptures declares the flags of captures.
func (a *Flags) declareCaptures(f flagset.Set) {
	f.Text(&a.capture, "capture", "", "age public `key`, or a file of them: requests and answers are kept, encrypted to "+
		"it, beside the audit log; by default no text is kept")
	f.Text(&a.captures, "capture-dir", "", "`folder` of the captures; by default captures in the folder of the audit log")
}

// Environment is what opening a log needs to know of the server.
type Environment struct {
	Expand  func(string) string // expands ~ in the names of files
	Offline bool
	Version string
	Models  []string
	Net     *egress.Net // whose connections are recorded
}

// Running is the log of a running server.
type Running struct {
	*audit.Log
	Captures *audit.Captures // nil without --capture
	syslog   *audit.Syslog
}

// Open opens the log and records that the server starts, with its flags, and from then on each connection that the
// server opens to others. It returns nil without --audit.
func (a *Flags) Open(e Environment) (*Running, error) {
	if a.dir == "" {
		if a.syslog != "" {
			return nil, flagset.Usagef("--audit-syslog needs --audit")
		}
		if a.capture != "" {
			return nil, flagset.Usagef("--capture needs --audit")
		}
		return nil, nil
	}
	r := new(Running)
	if err := a.openCaptures(r, e.Expand); err != nil {
		return nil, err
	}
	o := audit.Options{Continue: a.failure == continues}
	if a.syslog != "" {
		if e.Offline {
			return nil, flagset.Usagef("--audit-syslog and --offline contradict each other")
		}
		config, err := a.tlsConfig(e.Expand)
		if err == nil {
			r.syslog, err = audit.NewSyslog(a.syslog, config, complain)
		}
		if err != nil {
			return nil, flagset.Usagef("--audit-syslog: %w", err)
		}
		o.Send = r.syslog.Send
	}

	var err error
	if r.Log, err = audit.Open(e.Expand(a.dir), o); err != nil {
		return nil, err
	}
	start := audit.Event{Kind: audit.ServerStart, Object: strings.Join(e.Models, " "), Detail: a.configuration()}
	start.Detail["version"] = e.Version
	start.Detail["processor"] = machine.ProcessorName()
	if err := r.Append(start.Record()); err != nil {
		return nil, err
	}
	e.Net.Observer = r.connected
	if r.syslog != nil {
		r.syslog.Start(r.connected)
	}
	return r, nil
}

// openCaptures opens the folder of captures, if texts are captured.
func (a *Flags) openCaptures(r *Running, expand func(string) string) error {
	if a.capture == "" {
		if a.captures != "" {
			return flagset.Usagef("--capture-dir needs --capture")
		}
		return nil
	}
	recipients, err := audit.ParseRecipients(expand(a.capture))
	if err != nil {
		return flagset.Usagef("--capture: %w", err)
	}
	dir := capturesOf(expand(a.dir), expand(a.captures))
	r.Captures, err = audit.OpenCaptures(dir, recipients, a.failure == continues)
	return err
}

// capturesOf returns the folder of the captures of a log, which may be given.
func capturesOf(log, given string) string {
	if given != "" {
		return given
	}
	return filepath.Join(log, audit.CapturesFolder)
}

// connected records a connection before it is used, also that to the collector of the records.
func (r *Running) connected(_ context.Context, c egress.Connection) error {
	event := audit.Event{
		Kind:   audit.Connection,
		Object: c.Host,
		Detail: map[string]string{"for": c.Way, "reason": c.Reason, "named_by": c.NamedBy},
	}
	if c.Address.IsValid() {
		event.Detail["address"] = c.Address.String()
	}
	if c.Err != nil {
		event.Error = c.Err.Error()
	}
	return r.Append(event.Record())
}

// Stop records that the server stops, and closes the log.
func (r *Running) Stop() error {
	err := r.Append(audit.Event{Kind: audit.ServerStop}.Record())
	if closed := r.Close(); err == nil {
		err = closed
	}
	if r.syslog != nil {
		r.syslog.Close()
	}
	return err
}

// complain tells the log about the connection to the collector.
func complain(err error) {
	if err != nil {
		slog.Error("audit records cannot be sent to the syslog collector", "error", err)
		return
	}
	slog.Info("audit records are sent to the syslog collector again")
}

// tlsConfig returns how the collector is verified.
func (a *Flags) tlsConfig(expand func(string) string) (*tls.Config, error) {
	if a.syslogCA == "" {
		return &tls.Config{}, nil
	}
	pem, err := os.ReadFile(expand(a.syslogCA))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s contains no PEM certificate", a.syslogCA)
	}
	return &tls.Config{RootCAs: pool}, nil
}

// configuration returns the flags that were given, without what is secret in URLs.
func (a *Flags) configuration() map[string]string {
	given := map[string]string{}
	for name, value := range a.all.Given() {
		if u, err := url.Parse(value); err == nil && u.User != nil {
			u.User = url.User("…")
			value = u.String()
		}
		given["--"+name] = value
	}
	// A record has room for so many.
	const most = 60
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if len(given) > most {
			delete(given, name)
		}
	}
	return given
}
