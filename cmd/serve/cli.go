package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"serve/hub"
	"serve/loader"
	"serve/models"
	"serve/registry"
	"serve/terminal"
	"serve/tracing"
)

// cli is what every command has: the terminal, the environment, and the flags that every
// command takes.
type cli struct {
	t        *terminal.Terminal
	environ  []string
	offline  bool
	caFile   string
	logLevel string
}

// lookup returns a variable of the environment, or "".
func (w *cli) lookup(name string) string {
	value := ""
	for _, pair := range w.environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}

// network says how this machine reaches others, if it may.
func (w *cli) network() (hub.Options, error) {
	o, err := hub.FromEnvironment(w.lookup)
	o.Offline = o.Offline || w.offline
	o.CAFile = w.caFile
	o.UserAgent = "serve/" + versionText()
	return o, err
}

// store opens the models of this machine. It opens no connection.
func (w *cli) store() (*models.Store, error) {
	o, err := w.network()
	if err != nil {
		return nil, err
	}
	o.Progress = w.t.Progress()
	client, err := hub.New(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return &models.Store{Hub: client, Home: w.home(o.Cache)}, nil
}

// home is the folder of what serve itself remembers.
func (w *cli) home(cache string) string {
	switch {
	case w.lookup("SERVE_HOME") != "":
		return w.lookup("SERVE_HOME")
	case w.lookup("XDG_DATA_HOME") != "":
		return filepath.Join(w.lookup("XDG_DATA_HOME"), "serve")
	case w.lookup("HOME") != "":
		return filepath.Join(w.lookup("HOME"), ".local", "share", "serve")
	}
	return filepath.Join(cache, ".serve")
}

// tracer sends spans to an OpenTelemetry collector, until it is stopped.
func (w *cli) tracer(ctx context.Context, endpoint string) (tracer trace.Tracer, stop func(), err error) {
	collector, err := tracing.ParseCollector(endpoint)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: --otlp-endpoint: %w", errUsage, err)
	}
	network, err := w.network()
	if err != nil {
		return nil, nil, err
	}
	if network.Offline {
		return nil, nil, fmt.Errorf("%w: --otlp-endpoint and --offline contradict each other", errUsage)
	}
	transport, err := hub.Transport(network)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errUsage, err)
	}

	w.t.Fact("traces", "sent to %s", collector.Redacted())
	return tracing.Start(ctx, tracing.Options{
		Collector: collector,
		Transport: transport,
		Version:   versionText(),
		Warn:      w.t.Warn,
	})
}

// servers returns the servers that run on this machine.
func (w *cli) servers() ([]registry.Server, error) {
	store, err := w.store()
	if err != nil {
		return nil, err
	}
	return registry.List(store.Home)
}

// parse reads a reference as it was typed.
func (w *cli) parse(name string) (*models.Reference, error) {
	return models.ParseReference(hub.ExpandHome(name, w.lookup), models.FileExists)
}

// resolve reads a reference, and says what it means if it leaves a choice to the catalog: what it
// meant before on this machine, or, with update, what it means today.
func (w *cli) resolve(store *models.Store, name string, update bool) (*models.Reference, error) {
	r, err := w.parse(name)
	if err != nil || !r.Chosen {
		return r, err
	}
	today := r.Entry
	if !update {
		r = store.Settle(r)
	}

	if r.Entry.Name == today.Name {
		w.t.Note("%s means %s today", name, today.Name)
	} else {
		w.t.Note("%s still means %s on this machine; in today's catalog it means %s; to download that: serve pull --update %s",
			name, r.Entry.Name, today.Name, name)
	}
	return r, nil
}

// find returns a model that is on this machine.
func (w *cli) find(store *models.Store, name string) (*models.Local, error) {
	r, err := w.resolve(store, name, false)
	if err != nil {
		return nil, err
	}
	return store.Find(r)
}

// pull returns a model, downloading it if it is not here, and says what it is under which license.
func (w *cli) pull(ctx context.Context, store *models.Store, name string, update bool) (*models.Local, error) {
	r, err := w.resolve(store, name, update)
	if err != nil {
		return nil, err
	}
	local, downloaded, err := store.Pull(ctx, r, update)
	if err != nil {
		return nil, err
	}
	if downloaded {
		w.t.Fact("pulled", "%s: %s of %s", local.Name, local.Weights[0].Path, local.Repo)
		w.t.Fact("license", "%s", license(local))
	}
	return local, nil
}

func license(l *models.Local) string {
	text := l.License
	if text == "" {
		text = "unknown: see the repository"
	}
	if l.Link != "" {
		text += " " + l.Link
	}
	return text
}

// chooseProjector gives a model the projector that it is to read images with.
func (w *cli) chooseProjector(p *loader.Projectors, local *models.Local, first bool) error {
	unusable, err := p.Choose(local, first)
	if unusable != nil {
		w.t.Warn("%s cannot read images: %v", local.Name, unusable)
	}
	return err
}
