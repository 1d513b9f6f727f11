package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"serve/engine/llama"
	"serve/hub"
	"serve/kernels"
	"serve/models"
	"serve/models/testmodel"
)

// storeParts writes a model in so many parts to a folder, and returns it by the names that they have below a link.
func storeParts(t *testing.T, folder, link string, parts int) *models.Local {
	t.Helper()
	o := testmodel.Options{ChatTemplate: testmodel.ChatML}
	contents := [][]byte{testmodel.Bytes(o)}
	if parts > 1 {
		contents = testmodel.Split(o, parts)
	}
	local := &models.Local{Name: "tiny"}
	for i, content := range contents {
		name := "tiny.gguf"
		if parts > 1 {
			name = fmt.Sprintf("tiny-%05d-of-%05d.gguf", i+1, parts)
		}
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		local.Weights = append(local.Weights, hub.CachedFile{
			File: hub.File{Path: name, Size: int64(len(content))},
			Name: filepath.Join(link, name),
		})
	}
	return local
}

// TestSwappedFiles leads the names of a model elsewhere when it has been verified: what is loaded, also by the next
// process after one that was killed, is what was verified. By the names alone the other files would be.
func TestSwappedFiles(t *testing.T) {
	for _, parts := range []int{1, 3} {
		t.Run(fmt.Sprint(parts), func(t *testing.T) {
			root := t.TempDir()
			link := filepath.Join(root, "model")
			good := filepath.Join(root, "good")
			bad := filepath.Join(root, "bad")
			err := errors.Join(os.Mkdir(good, 0o700), os.Mkdir(bad, 0o700), os.Symlink(good, link))
			if err != nil {
				t.Fatal(err)
			}
			local := storeParts(t, good, link, parts)
			for _, w := range local.Weights {
				if err := os.WriteFile(filepath.Join(bad, filepath.Base(w.Name)), []byte("GGUF, or not"), 0o600); err != nil {
					t.Fatal(err)
				}
			}

			said := newRecorder()
			l := New(Options{
				Model:    ModelOptions{Context: 256, Parallel: 2, KVType: "f16", Kernels: AutoKernels},
				Isolate:  true,
				Store:    &models.Store{Home: t.TempDir()},
				Hardware: testHardware(),
				Reporter: said,
				Environ:  os.Environ(),
				LogLevel: "info",
				Log:      said,
			})
			files, header, err := l.verified(t.Context(), local)
			if err != nil {
				t.Fatal(err)
			}
			defer files.close()
			q := l.request(local, header, false)
			q.Kernels = kernels.Usable(llama.Kernels(), nil)[0]
			if err := errors.Join(os.Remove(link), os.Symlink(bad, link)); err != nil {
				t.Fatal(err)
			}

			use := new(usage)
			text, err := l.openText(t.Context(), q, files, use)
			if err != nil {
				t.Fatal(err)
			}
			defer text.close()
			for range 2 { // the second is what a restart does
				model, _, err := l.openWith(t.Context(), q, files, use)
				if err != nil {
					t.Fatal(err)
				}
				if m := model.Runner.Model(); m.Architecture != header.Architecture() {
					t.Errorf("another model: %+v", m)
				}
				model.Close()
			}
			if err := files.check(); err != nil {
				t.Errorf("what was verified has not changed: %v", err)
			}

			byName := &openedFiles{names: files.names, check: files.check, model: local}
			if model, _, err := l.openWith(t.Context(), q, byName, use); err == nil {
				model.Close()
				t.Error("the names lead to the files that were verified: this test shows nothing")
			}
		})
	}
}
