package hostmem

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

const unit = 64 << 10

// fill writes a byte to all of a region.
func fill(t *testing.T, m *Arena, at, n int64, b byte) {
	t.Helper()
	if err := m.Write(at, n, func(to []byte) error {
		copy(to, bytes.Repeat([]byte{b}, len(to)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// holds reports whether all of a region is one byte.
func holds(t *testing.T, m *Arena, at, n int64, b byte) (all bool) {
	t.Helper()
	if err := m.Read(at, n, func(from []byte) error {
		all = int64(len(from)) == n && bytes.Count(from, []byte{b}) == len(from)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func newArena(t *testing.T) *Arena {
	t.Helper()
	m, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestArena(t *testing.T) {
	m := newArena(t)
	if err := m.Limit(8 * unit); err != nil {
		t.Fatal(err)
	}
	fill(t, m, 0, 3*unit, 'a')
	fill(t, m, 3*unit, 100, 'b')
	if taken, err := m.Taken(); err != nil || taken < 3*unit || taken > 4*unit {
		t.Errorf("%d bytes are taken, %v", taken, err)
	}
	if err := m.Discard(0, 2*unit); err != nil {
		t.Fatal(err)
	}
	if taken, err := m.Taken(); err != nil || taken > 2*unit {
		t.Errorf("%d bytes are taken after two units were discarded, %v", taken, err)
	}
	if !holds(t, m, 0, 2*unit, 0) || !holds(t, m, 2*unit, unit, 'a') || !holds(t, m, 3*unit, 100, 'b') {
		t.Error("a region has something else")
	}

	nothing := func([]byte) error { t.Error("a region that is none was mapped"); return nil }
	for _, r := range [][2]int64{
		{-unit, unit}, {0, 0}, {0, -1}, {7 * unit, 2 * unit}, {9 * unit, 1}, {100, 10}, {unit, 1 << 62},
	} {
		if m.Read(r[0], r[1], nothing) == nil || m.Write(r[0], r[1], nothing) == nil {
			t.Errorf("%v was mapped", r)
		}
	}
}

// TestPrepared takes memory, and leaves what is there.
func TestPrepared(t *testing.T) {
	m := newArena(t)
	if err := m.Limit(4 * unit); err != nil {
		t.Fatal(err)
	}
	fill(t, m, 0, unit, 'a')
	if err := m.Prepare(0, 3*unit); err != nil {
		t.Fatal(err)
	}
	if taken, err := m.Taken(); err != nil || taken < 3*unit || taken > 3*unit+unit/2 {
		t.Errorf("%d bytes are taken, %v", taken, err)
	}
	if !holds(t, m, 0, unit, 'a') || !holds(t, m, unit, 2*unit, 0) {
		t.Error("what was there is not")
	}
	if m.Prepare(3*unit, 2*unit) == nil {
		t.Error("what is no region was prepared")
	}
	if err := m.Close(); err != nil || m.Prepare(0, unit) == nil {
		t.Error("closed memory was prepared")
	}
}

// TestNobodyChangesTheSize tries what a child could do with its descriptor: then this process, or another child, would
// find no memory where it should be.
func TestNobodyChangesTheSize(t *testing.T) {
	m := newArena(t)
	if err := m.Limit(unit); err != nil {
		t.Fatal(err)
	}
	other, err := Handed(int(m.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, size := range []int64{0, 2 * unit} {
		if err := unix.Ftruncate(int(other.File().Fd()), size); err == nil {
			t.Errorf("the size was changed to %d", size)
		}
	}
	if err := other.Limit(2 * unit); err == nil {
		t.Error("the limit was changed")
	}
}

// TestChildWrites has a child write to memory, and end.
func TestChildWrites(t *testing.T) {
	if os.Getenv("TEST_CHILD") == "1" {
		m, err := Handed(3)
		if err != nil {
			t.Fatal(err)
		}
		fill(t, m, unit, unit, 'c')
		return
	}

	m := newArena(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestChildWrites$")
	cmd.Env = append(os.Environ(), "TEST_CHILD=1")
	cmd.ExtraFiles = []*os.File{m.File()}
	if err := m.Limit(2 * unit); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !holds(t, m, unit, unit, 'c') || !holds(t, m, 0, unit, 0) {
		t.Error("what the child wrote is not there")
	}
}
