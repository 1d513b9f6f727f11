package loader

import (
	"errors"
	"testing"

	"serve/hub"
	"serve/models"
)

// TestPathsAreText refuses files whose paths are not UTF-8, with a hint, before anything is loaded.
func TestPathsAreText(t *testing.T) {
	for name, tt := range map[string]struct {
		paths     []string
		projector string
		fine      bool
	}{
		"plain":         {[]string{"/models/a b.gguf"}, "", true},
		"accents":       {[]string{"/modèles/ñ.gguf"}, "/modèles/mmproj.gguf", true},
		"Latin-1":       {[]string{"/models/caf\xe9.gguf"}, "", false},
		"a folder":      {[]string{"/mod\xe8les/a.gguf"}, "", false},
		"a second part": {[]string{"/models/a-1.gguf", "/models/\xff-2.gguf"}, "", false},
		"a projector":   {[]string{"/models/a.gguf"}, "/models/\xc3.gguf", false},
	} {
		local := &models.Local{}
		for _, path := range tt.paths {
			local.Weights = append(local.Weights, hub.CachedFile{Name: path})
		}
		if tt.projector != "" {
			local.Projector = &hub.CachedFile{Name: tt.projector}
		}

		err := checkPaths(local)
		var hint interface{ Hint() string }
		if tt.fine != (err == nil) || err != nil && (!errors.Is(err, ErrModel) || !errors.As(err, &hint) || hint.Hint() == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
