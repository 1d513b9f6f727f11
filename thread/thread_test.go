package thread

import (
	"errors"
	"strings"
	"testing"
)

// TestPanic is one of Run's caller, too, and says where it was.
func TestPanic(t *testing.T) {
	broken := errors.New("broken")
	for _, value := range []any{broken, "broken"} {
		func() {
			defer func() {
				err, _ := recover().(error)
				if err == nil || !strings.Contains(err.Error(), "TestPanic") || value == any(broken) && !errors.Is(err, broken) {
					t.Errorf("%v panics with %v", value, err)
				}
			}()
			Run(func(*Thread) { panic(value) })
		}()
	}

	did := false
	if Run(func(*Thread) { did = true }); !did {
		t.Error("what follows a panic is not called")
	}
}
