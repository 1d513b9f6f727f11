package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"serve/hub"
	"serve/models"
)

// workplace is what every command has: the terminal, the environment, and the
// flags that stand before any command.
type workplace struct {
	t        *terminal
	environ  []string
	offline  bool
	caFile   string
	logLevel string
}

// lookup returns a variable of the environment, or "".
func (w *workplace) lookup(name string) string {
	value := ""
	for _, pair := range w.environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}

// network says how this machine reaches others, if it may.
func (w *workplace) network() (hub.Options, error) {
	o, err := hub.FromEnvironment(w.lookup)
	o.Offline = o.Offline || w.offline
	o.CAFile = w.caFile
	o.UserAgent = "serve/" + versionText()
	return o, err
}

// store opens the models of this machine. It opens no connection.
func (w *workplace) store() (*models.Store, error) {
	o, err := w.network()
	if err != nil {
		return nil, err
	}
	o.Progress = newProgress(w.t)
	client, err := hub.New(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return &models.Store{Hub: client, Home: w.home(o.Cache)}, nil
}

// register makes this serve known to ps.
func (w *workplace) register(listener net.Listener) (forget func(), err error) {
	store, err := w.store()
	if err != nil {
		return nil, err
	}
	return register(store.Home, listener.Addr())
}

// home is the folder of what serve itself remembers.
func (w *workplace) home(cache string) string {
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

// parse reads a reference as it was typed.
func (w *workplace) parse(name string) (*models.Reference, error) {
	return models.ParseReference(hub.ExpandHome(name, w.lookup), models.FileExists)
}

// settle reads a reference, and says what it means if it leaves a choice to the
// catalogue: what it meant before on this machine, or, with update, what it means today.
func (w *workplace) settle(store *models.Store, name string, update bool) (*models.Reference, error) {
	r, err := w.parse(name)
	if err != nil || !r.Chosen {
		return r, err
	}
	today := r.Entry
	if !update {
		r = store.Settle(r)
	}

	if r.Entry.Name == today.Name {
		w.t.note("%s means %s today", name, today.Name)
	} else {
		w.t.note("%s means %s on this machine, as before; today's catalogue means %s, which serve pull --update %s fetches",
			name, r.Entry.Name, today.Name, name)
	}
	return r, nil
}

// find returns a model that is on this machine.
func (w *workplace) find(store *models.Store, name string) (*models.Local, error) {
	r, err := w.settle(store, name, false)
	if err != nil {
		return nil, err
	}
	return store.Find(r)
}

// pull returns a model, fetching it if it is not here, and says what it is under
// whose terms.
func (w *workplace) pull(ctx context.Context, store *models.Store, name string, update bool) (*models.Local, error) {
	r, err := w.settle(store, name, update)
	if err != nil {
		return nil, err
	}
	local, fetched, err := store.Pull(ctx, r, update)
	if err != nil {
		return nil, err
	}
	if fetched {
		w.t.fact("pulled", "%s: %s of %s", local.Name, local.Weights[0].Path, local.Repo)
		w.t.fact("licence", "%s", licence(local))
	}
	return local, nil
}

func licence(l *models.Local) string {
	text := l.License
	if text == "" {
		text = "unknown: see the repository"
	}
	if l.Link != "" {
		text += " " + l.Link
	}
	return text
}
