package prefixdir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"serve/engine"
	"serve/hostmem"
)

// memory is host memory without pages.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) Read(at, n int64, read func([]byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return read(m.b[at : at+n])
}

func (m *memory) Write(at, n int64, write func([]byte) error) error { return m.Read(at, n, write) }

// save writes what stands for cells, and returns the prefix.
func (m *memory) save(at int64, p engine.KeptPrefix, size int64) engine.KeptPrefix {
	_ = m.Write(at, size, func(b []byte) error {
		for i := range b {
			b[i] = byte(i) + byte(i>>9) + byte(len(p.Tokens)) + byte(len(p.Tenant))
		}
		p.Saved = engine.Saved{Region: engine.Region{At: at, Size: size}, Sum: hostmem.Checksum(b)}
		return nil
	})
	return p
}

const testSize = hostmem.SumPiece + 1000

// place is a folder in a test.
type place struct {
	dir, home string
	bytes     int64
	build     byte
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return &place{dir: filepath.Join(t.TempDir(), "prefixes"), home: t.TempDir(), bytes: 1 << 30}
}

func (p *place) open(t *testing.T) *Folder {
	t.Helper()
	f, err := Open(Options{
		Dir:     p.dir,
		KeyFile: filepath.Join(p.home, "key"),
		Build:   [32]byte{p.build},
		Bytes:   p.bytes,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// files returns the names of the prefixes' files.
func (p *place) files(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(p.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(name string) bool { return filepath.Base(name) == "lock" })
}

func tokensOf(n, first int) []engine.Token {
	list := make([]engine.Token, n)
	for i := range list {
		list[i] = engine.Token(first + i)
	}
	return list
}

// fill writes prefixes, and leaves the folder.
func (p *place) fill(t *testing.T, list ...engine.KeptPrefix) engine.FolderStats {
	t.Helper()
	f := p.open(t)
	defer f.Close()
	mem := &memory{b: make([]byte, int64(len(list))*2*testSize)}
	m := f.Model([32]byte{1}, [32]byte{2}, mem)
	for i, k := range list {
		m.Put(mem.save(int64(i)*2*testSize, k, testSize), true)
	}
	m.Close()
	return m.Stats()
}

// fetch reads the prefix that shares the most tokens with some, and returns its cells, how many it shares, and 0 if
// there is none or it cannot be read.
func fetch(t *testing.T, m *Model, mem *memory, like engine.KeptPrefix) (cells []byte, shared int) {
	t.Helper()
	id, p, shared := m.Find(like, false)
	if id == 0 {
		return nil, 0
	}
	done := make(chan error, 1)
	m.Fetch(id, engine.Region{Size: 2 * testSize}, func(saved engine.Saved, err error) {
		if err == nil && saved.Sum != p.Saved.Sum {
			err = errors.New("another checksum")
		}
		done <- err
	})
	if err := <-done; err != nil {
		return nil, 0
	}
	return bytes.Clone(mem.b[:p.Saved.Size]), shared
}

// find opens the folder again and fetches from it.
func (p *place) find(t *testing.T, model, setup byte, like engine.KeptPrefix) (int, engine.FolderStats) {
	t.Helper()
	f := p.open(t)
	defer f.Close()
	mem := &memory{b: make([]byte, 2*testSize)}
	m := f.Model([32]byte{model}, [32]byte{setup}, mem)
	defer m.Close()
	cells, shared := fetch(t, m, mem, like)
	if shared > 0 {
		kept := like
		kept.Tokens = like.Tokens[:shared]
		want := &memory{b: make([]byte, testSize)}
		want.save(0, kept, testSize)
		if !bytes.Equal(cells, want.b) {
			t.Error("other cells were read than were written")
		}
	}
	return shared, m.Stats()
}

func TestKeeps(t *testing.T) {
	p := newPlace(t)
	one := engine.KeptPrefix{Tokens: tokensOf(300, 5), Tenant: "A", Salt: "salt"}
	if s := p.fill(t, one); s.Written.Count != 1 || s.Entries != 1 || s.Used < testSize {
		t.Errorf("%+v", s)
	}

	longer := one
	longer.Tokens = append(slices.Clone(one.Tokens), 7, 8, 9)
	if n, s := p.find(t, 1, 2, longer); n != 300 || s.Read.Count != 1 || s.Read.Tokens != 300 {
		t.Errorf("%d tokens, %+v", n, s)
	}
	for name, like := range map[string]engine.KeptPrefix{
		"tenant":       {Tokens: one.Tokens, Tenant: "B", Salt: "salt"},
		"salt":         {Tokens: one.Tokens, Tenant: "A"},
		"reproducible": {Tokens: one.Tokens, Tenant: "A", Salt: "salt", Reproducible: true},
		"tokens":       {Tokens: tokensOf(300, 6), Tenant: "A", Salt: "salt"},
	} {
		if n, _ := p.find(t, 1, 2, like); n > 0 {
			t.Errorf("another %s: %d tokens", name, n)
		}
	}
	if n, _ := p.find(t, 3, 2, one); n > 0 || len(p.files(t)) != 1 {
		t.Errorf("another model: %d tokens, and left %v", n, p.files(t))
	}
	if n, s := p.find(t, 1, 3, one); n > 0 || s.Removed[RemovedSetup] != 1 || len(p.files(t)) > 0 {
		t.Errorf("another setup: %d tokens, %+v", n, s)
	}

	p.fill(t, one)
	p.build = 9
	if n, s := p.find(t, 1, 2, one); n > 0 || s.Removed[RemovedBuild] != 1 || len(p.files(t)) > 0 {
		t.Errorf("another build: %d tokens, %+v", n, s)
	}
}

// TestNothingIsReadable looks for what a file must not show.
func TestNothingIsReadable(t *testing.T) {
	p := newPlace(t)
	p.fill(t, engine.KeptPrefix{Tokens: tokensOf(300, 0x41414141), Tenant: "some tenant", Salt: "some salt"})
	names := p.files(t)
	if len(names) != 1 {
		t.Fatal(names)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"some tenant", "some salt", "AAAABAAA", "\x01\x02\x03\x04\x05\x06"} {
		if bytes.Contains(b, []byte(text)) {
			t.Errorf("%q is there to read", text)
		}
	}
	for _, name := range []string{names[0], filepath.Join(p.home, "key")} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if info, err := os.Stat(p.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", p.dir, info.Mode(), err)
	}
}

// TestDamagedFiles cuts a file at every kind of place, and flips a bit in each of its parts.
func TestDamagedFiles(t *testing.T) {
	p := newPlace(t)
	one := engine.KeptPrefix{Tokens: tokensOf(300, 5)}
	p.fill(t, one)
	name := p.files(t)[0]
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}

	headerEnd := len(whole) - testSize - 2*overhead
	places := []int{
		0, 3, len(magic), len(magic) + 5, beginning - 2, beginning, beginning + 20, headerEnd - 1, headerEnd, headerEnd + 5,
		headerEnd + hostmem.SumPiece/2, headerEnd + hostmem.SumPiece + overhead, len(whole) - 500, len(whole) - 1,
	}
	damaged := map[string][]byte{"longer": append(slices.Clone(whole), 0)}
	for _, at := range places {
		damaged[fmt.Sprint("cut at ", at)] = whole[:at]
		flipped := slices.Clone(whole)
		flipped[at] ^= 0x10
		damaged[fmt.Sprint("flipped at ", at)] = flipped
	}
	for what, b := range damaged {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n, s := p.find(t, 1, 2, one)
		if n > 0 || s.Removed[RemovedDamaged] != 1 || s.Entries > 0 || len(p.files(t)) > 0 {
			t.Errorf("%s: %d tokens, %+v", what, n, s)
		}
	}

	if err := os.WriteFile(name, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, _ := p.find(t, 1, 2, one); n != 300 {
		t.Error("what was written is not read any more, so the others prove nothing")
	}
	if err := os.Remove(filepath.Join(p.home, "key")); err != nil {
		t.Fatal(err)
	}
	if n, s := p.find(t, 1, 2, one); n > 0 || s.Removed[RemovedDamaged] != 1 {
		t.Errorf("with another key: %d tokens, %+v", n, s)
	}
}

// TestChangedMeanwhile puts another file in the place of one that is in the index, and takes one away.
func TestChangedMeanwhile(t *testing.T) {
	p := newPlace(t)
	one := engine.KeptPrefix{Tokens: tokensOf(300, 5), Tenant: "A"}
	two := engine.KeptPrefix{Tokens: tokensOf(300, 5), Tenant: "B"}
	p.fill(t, one, two)
	f := p.open(t)
	mem := &memory{b: make([]byte, 2*testSize)}
	m := f.Model([32]byte{1}, [32]byte{2}, mem)
	defer m.Close()

	nameOf := func(k engine.KeptPrefix) string {
		id, _, _ := m.Find(k, false)
		return f.entries[id].name
	}
	b, err := os.ReadFile(nameOf(two))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(nameOf(one), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(nameOf(two)); err != nil {
		t.Fatal(err)
	}
	for _, k := range []engine.KeptPrefix{one, two} {
		if _, n := fetch(t, m, mem, k); n > 0 {
			t.Errorf("%d tokens of %s", n, k.Tenant)
		}
	}
	if s := m.Stats(); s.Read.Failed != 2 || s.Entries > 0 {
		t.Errorf("%+v", s)
	}
}

// fullDisk takes so many bytes.
type fullDisk struct {
	io.WriteCloser
	left int
}

func (d *fullDisk) Write(b []byte) (int, error) {
	n, err := d.WriteCloser.Write(b[:min(d.left, len(b))])
	if d.left -= n; n < len(b) && err == nil {
		err = syscall.ENOSPC
	}
	return n, err
}

func TestFullDisk(t *testing.T) {
	for _, room := range []int{0, 100, 2 << 20, testSize} {
		p := newPlace(t)
		f := p.open(t)
		f.create = func(name string) (io.WriteCloser, error) {
			w, err := createFile(name)
			return &fullDisk{w, room}, err
		}
		mem := &memory{b: make([]byte, 2*testSize)}
		m := f.Model([32]byte{1}, [32]byte{2}, mem)
		m.Put(mem.save(0, engine.KeptPrefix{Tokens: tokensOf(300, 5)}, testSize), true)
		m.Close()
		s := m.Stats()
		if s.Skipped[SkippedDisk] != 1 || s.Written.Failed != 1 || s.Entries > 0 || len(p.files(t)) > 0 {
			t.Errorf("with room for %d bytes: %+v, and there is %v", room, s, p.files(t))
		}
	}
}

// TestMemoryIsReused has the memory of a prefix written over before it is written to the folder.
func TestMemoryIsReused(t *testing.T) {
	p := newPlace(t)
	f := p.open(t)
	mem := &memory{b: make([]byte, 2*testSize)}
	m := f.Model([32]byte{1}, [32]byte{2}, mem)
	k := mem.save(0, engine.KeptPrefix{Tokens: tokensOf(300, 5)}, testSize)
	mem.b[testSize-1]++
	m.Put(k, true)
	m.Close()
	if s := m.Stats(); s.Skipped[SkippedGone] != 1 || s.Entries > 0 || len(p.files(t)) > 0 {
		t.Errorf("%+v, and there is %v", s, p.files(t))
	}
}

// TestRoom keeps to the bound, and takes from the tenant that has the most.
func TestRoom(t *testing.T) {
	p := newPlace(t)
	p.bytes = 3*testSize + testSize/2
	s := p.fill(t,
		engine.KeptPrefix{Tokens: tokensOf(300, 1), Tenant: "B"},
		engine.KeptPrefix{Tokens: tokensOf(300, 1000), Tenant: "A"},
		engine.KeptPrefix{Tokens: tokensOf(300, 2000), Tenant: "A"},
		engine.KeptPrefix{Tokens: tokensOf(300, 3000), Tenant: "A"},
	)
	if s.Entries != 3 || s.Used > p.bytes || s.Removed[RemovedRoom] != 1 {
		t.Errorf("%+v", s)
	}
	for like, want := range map[int]int{1000: 0, 2000: 300, 3000: 300} {
		if n, _ := p.find(t, 1, 2, engine.KeptPrefix{Tokens: tokensOf(300, like), Tenant: "A"}); n != want {
			t.Errorf("%d: %d tokens", like, n)
		}
	}
	if n, _ := p.find(t, 1, 2, engine.KeptPrefix{Tokens: tokensOf(300, 1), Tenant: "B"}); n != 300 {
		t.Error("what another tenant has was removed")
	}

	p.bytes = 2*testSize + testSize/2
	if n, s := p.find(t, 1, 2, engine.KeptPrefix{Tokens: tokensOf(300, 1), Tenant: "B"}); n != 300 || s.Entries != 2 {
		t.Errorf("with a smaller bound: %d tokens, %+v", n, s)
	}
	p.bytes = 1 << 20
	if s := p.fill(t, engine.KeptPrefix{Tokens: tokensOf(300, 1)}); s.Skipped[SkippedLarge] != 1 || s.Entries > 0 {
		t.Errorf("larger than the folder: %+v", s)
	}
}

func TestReplaces(t *testing.T) {
	p := newPlace(t)
	s := p.fill(t, engine.KeptPrefix{Tokens: tokensOf(300, 5)}, engine.KeptPrefix{Tokens: tokensOf(400, 5)})
	if s.Entries != 1 || s.Removed[RemovedReplaced] != 1 || len(p.files(t)) != 1 {
		t.Errorf("%+v", s)
	}
}

func TestForgetAndClear(t *testing.T) {
	p := newPlace(t)
	p.fill(t, engine.KeptPrefix{Tokens: tokensOf(300, 5), Tenant: "A"},
		engine.KeptPrefix{Tokens: tokensOf(300, 5), Tenant: "B"})
	f := p.open(t)
	m := f.Model([32]byte{1}, [32]byte{2}, &memory{})
	defer m.Close()
	m.Forget("A")
	f.removing.Wait()
	if s := m.Stats(); s.Entries != 1 || s.Removed[RemovedRevoked] != 1 || len(p.files(t)) != 1 {
		t.Errorf("forgotten: %+v", s)
	}
	m.Clear()
	f.removing.Wait()
	if s := m.Stats(); s.Entries != 0 || s.Removed[RemovedCrash] != 1 || len(p.files(t)) != 0 {
		t.Errorf("cleared: %+v", s)
	}
}

// TestOpen refuses a folder that another process has, and a key that others may read; and removes what a process that
// was killed has left.
func TestOpen(t *testing.T) {
	p := newPlace(t)
	f := p.open(t)
	o := f.o
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	f.Close()

	left := filepath.Join(p.dir, "0123"+suffix+temporary)
	foreign := filepath.Join(p.dir, "notes.txt")
	for _, name := range []string{left, foreign} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.open(t).Close()
	if got := p.files(t); !slices.Equal(got, []string{foreign}) {
		t.Errorf("left are %v", got)
	}

	if err := os.Chmod(o.KeyFile, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("with a key that others may read: %v", err)
	}
	if err := os.WriteFile(o.KeyFile, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(o.KeyFile, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("with a short key: %v", err)
	}
}

// TestReasons has the metrics know every reason.
func TestReasons(t *testing.T) {
	removed := []string{
		RemovedDamaged, RemovedBuild, RemovedSetup, RemovedRoom, RemovedReplaced, RemovedRevoked, RemovedCrash,
	}
	skipped := []string{SkippedBusy, SkippedGone, SkippedLarge, SkippedDisk}
	if !slices.Equal(removed, engine.FolderRemovals) || !slices.Equal(skipped, engine.FolderSkips) {
		t.Errorf("%v and %v", engine.FolderRemovals, engine.FolderSkips)
	}
}

// FuzzDecode reads anything as a header, and what it accepts is what encode writes.
func FuzzDecode(f *testing.F) {
	h := &header{key: Key{Model: [32]byte{1}}}
	h.Tokens = tokensOf(3, 5)
	h.Tenant = "A"
	h.Salt = "salt"
	h.Saved.Size = 7
	f.Add(h.encode())
	h.Reproducible = true
	f.Add(h.encode()[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decode(b)
		if err == nil && !bytes.Equal(h.encode(), b) {
			t.Errorf("%x is read as %+v", b, h)
		}
	})
}

// FuzzReadHeader reads anything as a file: what was not sealed with the key is never accepted.
func FuzzReadHeader(f *testing.F) {
	key := make([]byte, keySize)
	h := &header{}
	h.Tokens = tokensOf(3, 5)
	h.Saved.Size = 7
	var b bytes.Buffer
	_, size, err := begin(&b, key, h)
	if err != nil {
		f.Fatal(err)
	}
	whole := append(b.Bytes(), make([]byte, 7+overhead)...)
	if _, _, err := readHeader(bytes.NewReader(whole), size, key); err != nil || size != int64(len(whole)) {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:beginning])
	f.Fuzz(func(t *testing.T, file []byte) {
		// The process that fuzzes may be another one than that which sealed: salts and nonces differ.
		got, _, err := readHeader(bytes.NewReader(file), int64(len(file)), key)
		if err == nil && !bytes.Equal(got.encode(), h.encode()) {
			t.Errorf("%x is accepted", file)
		}
	})
}
