package dial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"serve/chatclient"
	"serve/registry"
)

// Find returns a running server that has a model, or any model if none is named, and the key for it; one without a URL
// if there is none. The server that OLLAMA_HOST names is one.
func (d *Dialer) Find(ctx context.Context, model string) (s registry.Server, key registry.Key, err error) {
	key, err = d.Key()
	if err != nil {
		return s, key, err
	}
	if s := d.serving(ctx, key, model); s.URL != "" {
		return s, key, nil
	}
	// The key is not meant for another program.
	s, err = d.ollama(ctx, model)
	return s, registry.Key{}, err
}

// serving returns a serve that runs on this machine and has the model; one without a URL if there is none.
func (d *Dialer) serving(ctx context.Context, key registry.Key, model string) (none registry.Server) {
	running, _ := d.Servers()
	for _, s := range running {
		status, err := d.status(ctx, s, key)
		if errors.Is(err, registry.ErrKey) && d.lists(ctx, s, key, model) {
			return s
		}
		if err != nil {
			continue
		}
		for _, m := range status.Models {
			if model == "" || m.ID == model || slices.Contains(m.Aliases, model) {
				return s
			}
		}
	}
	return none
}

// lists reports whether a server lists a model, or any if none is named, to one who may not see its status.
func (d *Dialer) lists(ctx context.Context, s registry.Server, key registry.Key, model string) bool {
	names, err := d.models(ctx, s, key)
	if errors.Is(err, chatclient.ErrKey) {
		d.Terminal.Note("the server at %s needs an API key: set SERVE_API_KEY or --api-key-file", s.URL)
		return false
	}
	if err != nil {
		d.Terminal.Note("the models of the server at %s are not known: %v", s.URL, err)
		return false
	}
	return model == "" && len(names) > 0 || slices.Contains(names, model)
}

// models lists the models of a server.
func (d *Dialer) models(ctx context.Context, s registry.Server, key registry.Key) ([]string, error) {
	transport, err := d.Transport(s, key)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, chatclient.ListTimeout)
	defer cancel()
	return chatclient.NewClient(s.URL, key.Secret, transport).Models(asking)
}

// ollama returns the server that OLLAMA_HOST names, if it has the model, or any model if none is named; one without a
// URL if it does not, or is not running.
func (d *Dialer) ollama(ctx context.Context, model string) (none registry.Server, err error) {
	value := d.Lookup("OLLAMA_HOST")
	if value == "" {
		return none, nil
	}
	address, err := chatclient.OllamaAddress(value)
	if err != nil {
		return none, usageError{fmt.Errorf("OLLAMA_HOST: %w", err)}
	}

	server := registry.Server{URL: address}
	names, err := d.models(ctx, server, registry.Key{})
	if errors.Is(err, ErrUsage) {
		return none, err
	}
	if err != nil {
		d.Terminal.Note("the server at %s (OLLAMA_HOST) does not answer: %v", address, err)
		return none, nil
	}

	has := func(name string) bool { return name == model || strings.TrimSuffix(name, ":latest") == model }
	if len(names) == 0 || model != "" && !slices.ContainsFunc(names, has) {
		return none, nil
	}
	return server, nil
}
