package models

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/models/testmodel"
)

func TestReadProjector(t *testing.T) {
	good := string(testmodel.Projector(testmodel.MLP))
	path := filepath.Join(t.TempDir(), "mmproj.gguf")
	read := func(content string) error {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := ReadProjector(path)
		return err
	}

	for _, kind := range []string{testmodel.MLP, testmodel.Gemma, testmodel.Qwen} {
		if err := read(string(testmodel.Projector(kind))); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}

	// patch sets the number of a size.
	patch := func(name string, n byte) string {
		at := strings.Index(good, "clip.vision."+name) + len("clip.vision."+name) + 4
		return good[:at] + string([]byte{n}) + good[at+1:]
	}

	for name, tt := range map[string]struct{ content, words string }{
		"a model":                 {string(testmodel.Bytes(testmodel.Options{})), "not an image projector"},
		"one that hears":          {strings.Replace(good, "has_vision_encoder", "has_sounds_encoder", 1), "not an image"},
		"no patches":              {patch("patch_size", 0), "patch_size"},
		"patches above the image": {patch("patch_size", 17), "inconsistent"},
		"heads that do not fit":   {patch("attention.head_count", 5), "inconsistent"},
		"no heads":                {patch("attention.head_count", 0), "head_count"},
		"cut off":                 {good[:len(good)-100], "truncated"},
		"of an unsupported kind":  {string(testmodel.Projector("hunyuanvl")), "hunyuanvl"},
	} {
		if err := read(tt.content); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, want %q", name, err, tt.words)
		}
	}
}
