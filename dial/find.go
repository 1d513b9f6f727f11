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

// Find returns the address of a running server that has a model, or any model if none is named, and the key for it; ""
// if there is none. The server that OLLAMA_HOST names is one.
func (d *Dialer) Find(ctx context.Context, model string) (address string, key registry.Key, err error) {
	key, err = d.Key()
	if err != nil {
		return "", key, err
	}
	if address := d.serving(ctx, key, model); address != "" {
		return address, key, nil
	}
	// The key is not meant for another program.
	address, err = d.ollama(ctx, model)
	return address, registry.Key{}, err
}

// serving returns the address of a serve that runs on this machine and has the model; "" if there is none.
func (d *Dialer) serving(ctx context.Context, key registry.Key, model string) string {
	running, _ := d.Servers()
	for _, s := range running {
		status, err := d.status(ctx, s.URL)
		if errors.Is(err, registry.ErrKey) && d.lists(ctx, s.URL, key, model) {
			return s.URL
		}
		if err != nil {
			continue
		}
		for _, m := range status.Models {
			if model == "" || m.ID == model || slices.Contains(m.Aliases, model) {
				return s.URL
			}
		}
	}
	return ""
}

// lists reports whether a server lists a model, or any if none is named, to one who may not see its status.
func (d *Dialer) lists(ctx context.Context, address string, key registry.Key, model string) bool {
	names, err := d.models(ctx, address, key)
	if err != nil {
		d.Terminal.Note("the server at %s needs an API key: set SERVE_API_KEY or --api-key-file", address)
		return false
	}
	return model == "" && len(names) > 0 || slices.Contains(names, model)
}

// models lists the models of a server.
func (d *Dialer) models(ctx context.Context, address string, key registry.Key) ([]string, error) {
	transport, err := d.Transport(address, key)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, chatclient.ListTimeout)
	defer cancel()
	return chatclient.NewClient(address, "", transport).Models(asking)
}

// ollama returns the address of the server that OLLAMA_HOST names, if it has the model, or any model if
// none is named; "" if it does not, or is not running.
func (d *Dialer) ollama(ctx context.Context, model string) (string, error) {
	value := d.Lookup("OLLAMA_HOST")
	if value == "" {
		return "", nil
	}
	address, err := chatclient.OllamaAddress(value)
	if err != nil {
		return "", usageError{fmt.Errorf("OLLAMA_HOST: %w", err)}
	}

	names, err := d.models(ctx, address, registry.Key{})
	if errors.Is(err, ErrUsage) {
		return "", err
	}
	if err != nil {
		d.Terminal.Note("the server at %s (OLLAMA_HOST) does not answer: %v", address, err)
		return "", nil
	}

	has := func(name string) bool { return name == model || strings.TrimSuffix(name, ":latest") == model }
	if len(names) == 0 || model != "" && !slices.ContainsFunc(names, has) {
		return "", nil
	}
	return address, nil
}
