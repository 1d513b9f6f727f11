package llama

import (
	"os"
	"slices"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

// TestThreadsOf has a context embed on the threads of another one, also when that one is gone: the same vectors, and no
// threads more.
func TestThreadsOf(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	text := tokenize(t, m, "the world")
	o := ContextOptions{Cells: 256, Sequences: 1, Batch: 64, Threads: 3}
	embed := func(beside *Context) ([]float32, int) {
		t.Helper()
		before := threads(t)
		o := o
		o.Embeddings = true
		o.Pooling = PoolingMean
		o.ThreadsOf = beside
		c, err := NewContext(m, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		started := threads(t) - before
		if beside != nil {
			decode(t, beside, 0, 0, text)
			beside.Close()
		}

		var b engine.Batch
		for i, token := range text {
			b.Add(token, i, 0, true)
		}
		if err := c.Decode(&b); err != nil {
			t.Fatal(err)
		}
		vector, err := c.Embedding(0, 0, m.info.EmbeddingOut)
		if err != nil {
			t.Fatal(err)
		}
		return vector, started
	}

	want, started := embed(nil)
	if started != o.Threads-1 {
		t.Errorf("a context of its own starts %d threads, not %d", started, o.Threads-1)
	}
	beside, err := NewContext(m, o)
	if err != nil {
		t.Fatal(err)
	}
	got, started := embed(beside)
	if started != 0 || !slices.Equal(got, want) {
		t.Errorf("%d threads were started, and the vector is %v, not %v", started, got, want)
	}
}

// threads returns how many threads this process has.
func threads(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
