package loader

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"

	"serve/engine/llama"
	"serve/models"
	"serve/prefixdir"
)

// prefixKey is the file in Store.Home with the key of the files in the folder.
const prefixKey = "prefix-cache.key"

// sharedFolder is the folder of prefixes, which is open while a model is loaded.
type sharedFolder struct {
	mu    sync.Mutex
	open  *prefixdir.Folder
	users int
}

// keptFolder is what a model uses of it.
type keptFolder struct {
	*prefixdir.Model
	shared *sharedFolder
}

// use opens the folder for another model.
func (s *sharedFolder) use(o prefixdir.Options) (*prefixdir.Folder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		folder, err := prefixdir.Open(o)
		if err != nil {
			return nil, &models.Error{
				Kind: ErrOptions,
				Text: err.Error(),
				Todo: "name another folder with --prefix-cache-folder, or none",
			}
		}
		s.open = folder
	}
	s.users++
	return s.open, nil
}

// close writes what waits to be written, and leaves the folder. There may be none.
func (k *keptFolder) close() {
	if k == nil {
		return
	}
	k.Close()
	k.shared.mu.Lock()
	defer k.shared.mu.Unlock()
	if k.shared.users--; k.shared.users == 0 {
		_ = k.shared.open.Close()
		k.shared.open = nil
	}
}

// setup is all but the weights and the build that decides what the cells of a sequence are.
type setup struct {
	KeyType, ValueType string
	FlashAttn          string
	Shared             bool
	Reproducible       bool
	RoPE               llama.RoPE
	Placement          llama.Placement
	Kernels            string
	Devices            []llama.Device
}

// useFolder returns what the folder has for a model, or nil if there is no folder, or nothing is saved of the model.
func (l *Loader) useFolder(ctx context.Context, local *models.Local, a *answer) (*keptFolder, error) {
	if l.o.Model.PrefixFolder == "" || a.cache == nil || a.Memory.Host().Saved == 0 {
		return nil, nil
	}
	weights, err := local.Digest(ctx)
	if err != nil {
		return nil, fmt.Errorf("hash %s: %w", local.Name, err)
	}

	plan := &a.Plan
	text, err := json.Marshal(setup{
		KeyType:      plan.KVType,
		ValueType:    plan.VType,
		FlashAttn:    plan.FlashAttn,
		Shared:       plan.Cells > 0 && plan.Cells < plan.Context*plan.Sequences,
		Reproducible: plan.Reproducible,
		RoPE:         plan.RoPE,
		Placement:    plan.Model.Placement,
		Kernels:      a.kernels.Name,
		Devices:      a.Devices,
	})
	if err != nil {
		return nil, err
	}

	folder, err := l.folder.use(prefixdir.Options{
		Dir:     l.o.Model.PrefixFolder,
		KeyFile: filepath.Join(l.o.Store.Home, prefixKey),
		Build:   sha256.Sum256([]byte(llama.KernelsBuild() + "\x00" + l.o.Version)),
		Bytes:   l.o.Model.PrefixFolderSize,
	})
	if err != nil {
		return nil, err
	}
	return &keptFolder{folder.Model(sha256.Sum256([]byte(weights)), sha256.Sum256(text), a.cache), &l.folder}, nil
}
