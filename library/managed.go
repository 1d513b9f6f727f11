package library

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"serve/fault"
	"serve/hub"
	"serve/loader"
	"serve/models"
	"serve/pool"
	"serve/service"
)

var _ service.Library = (*Managed)(nil)

// Managed is what clients of a running server may do with the models of this machine.
type Managed struct {
	*Served

	reading sync.Mutex // held while files are read, and guards known
	known   map[fileID]*service.Facts
}

// reference reads a client's name of a model. It is never a file: what the server may read is not the
// client's to say.
func (m *Managed) reference(name string) (*models.Reference, error) {
	if cut := len(name) - len(":latest"); cut > 0 && strings.EqualFold(name[cut:], ":latest") {
		name = name[:cut]
	}
	r, err := models.ParseReference(name, func(string) bool { return false })
	if err != nil {
		return nil, absent(name, err)
	}
	if r.Path != "" {
		return nil, absent(name, errors.New("the name of a model is required, not a path"))
	}
	if r.Chosen {
		r = m.Store.Settle(r)
	}
	return r, nil
}

// absent returns the error for a model that is not here.
func absent(name string, err error) error {
	return fault.New(fault.ModelNotFound, "model", "The model '%s' is not on this machine: %v.", name, err)
}

// local returns a model on this machine, which may be a served one by its ID.
func (m *Managed) local(name string) (*models.Local, error) {
	if o, ok := m.find(name, ""); ok {
		return o.local, nil
	}
	r, err := m.reference(name)
	if err != nil {
		return nil, err
	}
	local, err := m.Store.Find(r)
	if errors.Is(err, models.ErrNotHere) {
		return nil, absent(name, err)
	}
	return local, err
}

// Stored implements service.Library, as do the methods after it. Models that are served are not in it a
// second time, under another name.
func (m *Managed) Stored(ctx context.Context) ([]*service.Facts, error) {
	locals, err := m.Store.List()
	if err != nil {
		return nil, err
	}

	var list []*service.Facts
	for _, local := range locals {
		if _, served := m.find("", local.Path()); served {
			continue
		}
		facts, err := m.facts(ctx, local)
		if err != nil {
			// Other tools share the cache, and what they left is not always a model.
			slog.Debug("a stored model is not listed", "model", local.Name, "error", err)
			continue
		}
		list = append(list, facts)
	}
	slices.SortStableFunc(list, func(a, b *service.Facts) int { return b.Modified.Compare(a.Modified) })
	return list, nil
}

// Facts describes one model.
func (m *Managed) Facts(ctx context.Context, name string) (*service.Facts, error) {
	local, err := m.local(name)
	if err != nil {
		return nil, err
	}
	return m.facts(ctx, local)
}

// Open checks a model for the pool. Flags that are for the first model are not for it.
func (m *Managed) Open(ctx context.Context, name string) (*pool.Model, error) {
	local, err := m.local(name)
	if err != nil {
		return nil, err
	}
	if o, ok := m.find("", local.Path()); ok {
		return o.model, nil
	}
	model, _, err := m.prepare(ctx, local, new(loader.Projectors), false)
	if errors.Is(err, models.ErrRefused) {
		return nil, refused(err)
	}
	return model, err
}

// Remove deletes a model's files.
func (m *Managed) Remove(_ context.Context, name string) error {
	local, err := m.local(name)
	if err != nil {
		return err
	}
	freed, err := m.Store.Remove(local)
	if err != nil {
		return fault.New(fault.InvalidValue, "model", "%v", err)
	}
	m.forget(local.Path())
	slog.Info("model removed", "model", local.Name, "bytes", freed)
	return nil
}

// Pull downloads a model.
func (m *Managed) Pull(ctx context.Context, name string, report func(service.PullProgress)) error {
	r, err := m.reference(name)
	if err != nil {
		return err
	}
	store := *m.Store
	store.Hub = m.Store.Hub.With(&reporter{report: report})
	store.Remote = true
	local, downloaded, err := store.Pull(ctx, r, false)
	if err != nil {
		return notPulled(name, err)
	}
	if downloaded {
		slog.Info("model pulled", "model", local.Name, "bytes", local.Bytes())
	}
	return nil
}

// refused returns the error for a model that may not be used here. Who asks has the right to manage models, and may
// know why.
func refused(err error) error {
	text := err.Error()
	var why *models.Error
	if errors.As(err, &why) && why.Todo != "" {
		text += ". Hint: " + why.Todo
	}
	return fault.New(fault.Forbidden, "model", "%s.", text)
}

// notPulled returns the error for a model that could not be downloaded, with the Hub's reason and advice.
func notPulled(name string, err error) error {
	if errors.Is(err, models.ErrNotHere) {
		return absent(name, err)
	}
	if errors.Is(err, models.ErrRefused) || errors.Is(err, models.ErrTerms) {
		return refused(err)
	}
	var failed *hub.Error
	if !errors.As(err, &failed) {
		return err
	}

	kind := fault.Download
	switch {
	case errors.Is(err, hub.ErrNotFound):
		return absent(name, err)
	case errors.Is(err, hub.ErrDisk):
		kind = fault.StorageFull
	}
	text := fmt.Sprintf("The model '%s' cannot be downloaded: %v.", name, err)
	if failed.Todo != "" {
		text += " Hint: " + failed.Todo + "."
	}
	return fault.New(kind, "model", "%s", text)
}

// reportEvery is how often a download is reported at most.
const reportEvery = 200 * time.Millisecond

// reporter tells a client how a download goes on.
type reporter struct {
	report func(service.PullProgress)

	mu   sync.Mutex
	now  service.PullProgress
	last time.Time
}

var _ hub.FileProgress = (*reporter)(nil)

// StartFile implements hub.FileProgress, as do the methods after it.
func (r *reporter) StartFile(f hub.File, have int64) {
	r.start(service.PullProgress{File: f.Path, SHA256: f.SHA256, Bytes: f.Size, Done: have})
}

// Start begins what is no download, such as the check of a file.
func (r *reporter) Start(file string, size, have int64) {
	r.start(service.PullProgress{File: file, Bytes: size, Done: have})
}

func (r *reporter) start(p service.PullProgress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = p
	r.tell()
}

func (r *reporter) tell() {
	r.last = time.Now()
	r.report(r.now)
}

// Add counts bytes.
func (r *reporter) Add(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Done += n
	if time.Since(r.last) >= reportEvery {
		r.tell()
	}
}

// Note says why nothing advances.
func (r *reporter) Note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report(service.PullProgress{Note: text})
}

// Done ends the file.
func (r *reporter) Done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell()
}
