package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"serve/models"
)

// firstHanded is the descriptor of the first file of a model in an engine's process: those before it are its
// connections.
const firstHanded = 5

// openedFiles are the files of a model that an engine reads. On Linux they are opened once: what is verified is what
// these descriptors have, and engines are handed them, so that it does not matter what the names lead to by then.
type openedFiles struct {
	names []string // by which they were found

	// check returns an error if they are no longer those that were verified. It is called before and after an engine
	// reads them.
	check func() error

	model  *models.Local // by the names that the descriptors have in this process, or its own
	handed []*os.File    // the weights, in their order, and the projector; nil if engines open them by their names
	links  string        // folder with names for parts of a model
}

// openFiles opens the files of a model, for a loader with a home.
func openFiles(local *models.Local, home string) (f *openedFiles, err error) {
	f = &openedFiles{names: modelFiles(local), model: local}
	f.check = func() error { return nil }
	if runtime.GOOS != "linux" {
		return f, nil
	}
	if len(local.Weights) > 1 {
		if f.links, err = linkParts(home, len(local.Weights)); err != nil {
			return nil, err
		}
	}

	for _, name := range f.names {
		file, err := os.Open(name)
		if err != nil {
			f.close()
			return nil, err
		}
		f.handed = append(f.handed, file)
	}
	f.model = f.opened(local)
	return f, nil
}

// opened returns a model with the names that the descriptors have in this process.
func (f *openedFiles) opened(local *models.Local) *models.Local {
	model := *local
	model.Weights = nil
	for i, w := range local.Weights {
		w.Name = handedName(int(f.handed[i].Fd()))
		model.Weights = append(model.Weights, w)
	}
	if len(f.handed) > len(local.Weights) {
		projector := *local.Projector
		projector.Name = handedName(int(f.handed[len(local.Weights)].Fd()))
		model.Projector = &projector
	}
	return &model
}

// handedName is the name of a descriptor, in the process that has it.
func handedName(descriptor int) string { return fmt.Sprintf("/proc/self/fd/%d", descriptor) }

// inEngine changes a request to the names that the files have in an engine's process.
func (f *openedFiles) inEngine(q *request) {
	if len(f.handed) == 0 {
		return
	}
	parts := len(f.model.Weights)
	q.Path = handedName(firstHanded)
	if parts > 1 {
		q.Path = filepath.Join(f.links, partName(0, parts))
	}
	if q.Projector != "" {
		q.Projector = handedName(firstHanded + parts)
	}
}

// inSandbox returns those names, for rules.
func (f *openedFiles) inSandbox() (names []string) {
	for i := range f.handed {
		names = append(names, handedName(firstHanded+i))
	}
	return names
}

// close closes the files. Engines that have them keep them; no more can be started.
func (f *openedFiles) close() {
	for _, file := range f.handed {
		file.Close()
	}
}

// partName is the name of a part of a model, from which llama.cpp derives those of the others.
func partName(i, parts int) string { return fmt.Sprintf("model-%05d-of-%05d.gguf", i+1, parts) }

// linkParts makes links that in every engine's process lead to the parts that it was handed. They say nothing of a
// model, so that they can stay.
func linkParts(home string, parts int) (folder string, err error) {
	folder = filepath.Join(home, "parts")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", fmt.Errorf("make links to the parts of a model: %w", err)
	}
	for i := range parts {
		link := filepath.Join(folder, partName(i, parts))
		target := handedName(firstHanded + i)
		if now, err := os.Readlink(link); err == nil && now == target {
			continue
		}
		_ = os.Remove(link)
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("make links to the parts of a model: %w", err)
		}
	}
	return folder, nil
}
