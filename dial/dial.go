// Package dial finds servers for the commands that talk to one, and connects to them with their API key.
package dial

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"serve/flagset"
	"serve/hub"
	"serve/registry"
	"serve/server/ops"
	"serve/terminal"
)

// ErrUsage is the kind of errors in flags and variables of the environment.
var ErrUsage = errors.New("invalid address or API key")

// usageError is an ErrUsage.
type usageError struct{ error }

// Is implements the interface of package errors, as does Unwrap.
func (usageError) Is(target error) bool { return target == ErrUsage }
func (e usageError) Unwrap() error      { return e.error }

// Flags are those of commands that ask servers.
type Flags struct {
	KeyFile  string // of the API key; by default it is in registry.KeyVariable
	PlainKey bool   // the key may be sent to another machine without encryption
	CertFile string // of registry.Client; "" for none
}

// Declare declares the flags.
func (o *Flags) Declare(f flagset.Set) {
	f.Text(&o.KeyFile, "api-key-file", "", "`file` with the API key for the server; by default it is in SERVE_API_KEY")
	f.Toggle(&o.PlainKey, "plain-api-key", false, "send the API key to another machine by http, where others can read it")
	f.Text(&o.CertFile, "client-cert", "",
		"PEM `file` with the certificate, and its key, that identifies you to a server with --tls-client-ca")
}

// Dialer finds servers. All fields are required except those with a default.
type Dialer struct {
	Flags
	Terminal *terminal.Terminal
	Lookup   func(string) string               // a variable of the environment
	Network  func() (hub.Options, error)       // for connections to other machines, which Offline refuses
	Servers  func() ([]registry.Server, error) // that run on this machine
}

// Key returns the API key for servers, if there is one.
func (d *Dialer) Key() (registry.Key, error) {
	key, err := registry.ReadKey(hub.ExpandHome(d.KeyFile, d.Lookup), d.Lookup)
	key.Plain = d.PlainKey
	if err != nil {
		return key, usageError{err}
	}
	return key, nil
}

// Transport returns a transport to a server, to which requests with the key may be sent.
func (d *Dialer) Transport(s registry.Server, key registry.Key) (*http.Transport, error) {
	network, err := d.Network()
	if err != nil {
		return nil, err
	}
	client := registry.Connector{
		Network:  network,
		CertFile: hub.ExpandHome(d.CertFile, d.Lookup),
	}
	transport, err := client.Transport(s, key)
	if err != nil {
		return nil, usageError{err}
	}
	return transport, nil
}

// Status is the status of a server, or the reason why there is none.
type Status struct {
	URL string `json:"url"`
	*ops.Status
	Error string `json:"error,omitempty"`
	Err   error  `json:"-"`
}

// Statuses asks the servers named, or those that run on this machine.
func (d *Dialer) Statuses(ctx context.Context, urls []string) ([]Status, error) {
	var servers []registry.Server
	if len(urls) == 0 {
		running, err := d.Servers()
		if err != nil {
			return nil, err
		}
		servers = running
	}
	for _, u := range urls {
		servers = append(servers, registry.Server{URL: u})
	}

	list := []Status{}
	if len(servers) == 0 {
		return list, nil
	}
	key, err := d.Key()
	if err != nil {
		return nil, err
	}
	for _, server := range servers {
		status, err := d.status(ctx, server, key)
		s := Status{URL: server.URL, Status: status}
		if errors.Is(err, ErrUsage) {
			return nil, err
		}
		if err != nil {
			s.Error = err.Error()
			s.Err = err
		}
		list = append(list, s)
	}
	return list, nil
}

// status fetches a server's status.
func (d *Dialer) status(ctx context.Context, s registry.Server, key registry.Key) (*ops.Status, error) {
	transport, err := d.Transport(s, key)
	if err != nil {
		return nil, err
	}
	status := new(ops.Status)
	if err := registry.Ask(ctx, transport, s, key, status); err != nil {
		return nil, registry.Explain(s, err)
	}
	return status, nil
}

// Table returns rows of statuses, a model each, below the headings. Servers that have none are reported.
func Table(list []Status, report func(format string, args ...any)) [][]string {
	rows := [][]string{slices.Concat([]string{"ADDRESS", "PID"}, ops.Headings)}
	for _, s := range list {
		if s.Status == nil {
			report("%s", s.Error)
			continue
		}
		for _, m := range s.Models {
			cells := []string{strings.TrimPrefix(s.URL, "http://"), strconv.Itoa(s.PID)}
			rows = append(rows, append(cells, m.Cells()...))
		}
	}
	return rows
}
