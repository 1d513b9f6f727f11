package loader

import (
	"errors"
	"os"
	"testing"

	"serve/hostmem"
)

// TestWithoutCache refuses a size that was given where no such memory can be had, and goes on without where none was.
func TestWithoutCache(t *testing.T) {
	given := &ModelOptions{PrefixCache: CacheSize{Given: true, Bytes: 1 << 30}}
	if err := given.withoutCache(hostmem.ErrUnsupported); !errors.Is(err, hostmem.ErrUnsupported) {
		t.Error(err)
	}
	chosen := &ModelOptions{}
	if err := chosen.withoutCache(hostmem.ErrUnsupported); err != nil {
		t.Error(err)
	}
	if err := chosen.withoutCache(os.ErrPermission); err == nil {
		t.Error("another failure is ignored")
	}
}
