// Package dial finds servers for the commands that talk to one, and connects to them with their API key.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

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

// Dialer finds servers. All fields are required except those with a default.
type Dialer struct {
	Terminal *terminal.Terminal
	Lookup   func(string) string               // a variable of the environment
	Network  func() (hub.Options, error)       // for connections to other machines
	Servers  func() ([]registry.Server, error) // that run on this machine
	Offline  bool                              // refuses other machines
	KeyFile  string                            // of the API key; by default it is in registry.KeyVariable
	PlainKey bool                              // the key may be sent to another machine without encryption
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

// address reads the address of a server, with /v1 or without.
func (d *Dialer) address(text string) (*url.URL, error) {
	u, err := registry.ParseURL(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("--url: %w", err)}
	}
	if d.Offline && !registry.IsLocal(u) {
		return nil, usageError{fmt.Errorf("--url %q is on another machine, which --offline forbids", text)}
	}
	return u, nil
}

// Transport returns a transport to a server, which gets the key; no proxy is used for one on this machine.
func (d *Dialer) Transport(address string, key registry.Key) (http.RoundTripper, error) {
	u, err := d.address(address)
	if err != nil {
		return nil, err
	}
	if registry.IsLocal(u) {
		return d.WithKey(address, key, &http.Transport{})
	}
	network, err := d.Network()
	if err != nil {
		return nil, err
	}
	base, err := hub.Transport(network)
	if err != nil {
		return nil, err
	}
	return d.WithKey(address, key, base)
}

// WithKey returns a transport that sends a key to a server, unless others on the way could read it.
func (d *Dialer) WithKey(address string, key registry.Key, base http.RoundTripper) (http.RoundTripper, error) {
	u, err := d.address(address)
	if err != nil {
		return nil, err
	}
	if err := key.Check(u); err != nil {
		return nil, usageError{err}
	}
	return key.Transport(u, base), nil
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
	if len(urls) == 0 {
		running, err := d.Servers()
		if err != nil {
			return nil, err
		}
		for _, s := range running {
			urls = append(urls, s.URL)
		}
	}

	list := []Status{}
	for _, u := range urls {
		status, err := d.status(ctx, u)
		s := Status{URL: u, Status: status}
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
func (d *Dialer) status(ctx context.Context, address string) (*ops.Status, error) {
	u, err := d.address(address)
	if err != nil {
		return nil, err
	}
	key, err := d.Key()
	if err != nil {
		return nil, err
	}
	if err := key.Check(u); err != nil {
		return nil, usageError{err}
	}
	status := new(ops.Status)
	if err := registry.Ask(ctx, u, key, status); err != nil {
		return nil, NoServer(address, err)
	}
	return status, nil
}

// noServerError says that no server answers.
type noServerError struct{ error }

// Unwrap implements the interface of package errors.
func (e noServerError) Unwrap() error { return e.error }

// Hint says what to do about the error.
func (noServerError) Hint() string { return "start one with serve MODEL" }

// NoServer describes why a server's models or status could not be fetched.
func NoServer(address string, err error) error {
	var asked *url.Error
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		return noServerError{fmt.Errorf("no server answers at %s (%w)", address, hub.Cause(op))}
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the server at %s did not respond in time", address)
	case errors.As(err, &asked):
		err = asked.Err // without the URL again
	}
	return fmt.Errorf("the server at %s cannot be used: %w", address, err)
}
