package host

import (
	"errors"
	"fmt"
	"testing"

	"serve/loader"
	"serve/pool"
)

// TestLoadError marks what the server does something about: unload others, and try again later.
func TestLoadError(t *testing.T) {
	err := LoadError(fmt.Errorf("load: %w", &loader.MemoryError{Short: 7}))
	var short *pool.NoRoomError
	if !errors.As(err, &short) || short.Short != 7 || !errors.Is(err, loader.ErrMemory) {
		t.Errorf("no room: %v", err)
	}

	err = LoadError(fmt.Errorf("load: %w", &loader.DeviceError{Text: "CUDA0 is gone"}))
	var missing *pool.UnavailableError
	if !errors.As(err, &missing) || !errors.Is(err, loader.ErrDevice) {
		t.Errorf("no device: %v", err)
	}

	other := errors.New("other")
	if !errors.Is(LoadError(other), other) || LoadError(nil) != nil {
		t.Error("other errors are changed")
	}
}
