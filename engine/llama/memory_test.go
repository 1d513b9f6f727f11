package llama

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/cpu"

	"serve/models/testmodel"
)

// TestMeasureCountsWeights lays out models in types that the processor repacks and in others:
// all of their weights are somewhere.
func TestMeasureCountsWeights(t *testing.T) {
	for _, weights := range append([]string{testmodel.F32}, testmodel.Types...) {
		path := write(t, testmodel.Options{Type: weights, Width: 256, Hidden: 1024})
		m, err := LoadModel(path, LoadOptions{layout: true})
		if err != nil {
			t.Fatal(err)
		}
		file := m.info.Size
		m.Close()

		for _, o := range []LoadOptions{{}, {NoRepack: true}} {
			memory, err := Measure(path, Options{Model: o, Context: 256, Sequences: 1})
			if err != nil {
				t.Fatal(err)
			}
			// Tensors are aligned, and AMX's are a little larger.
			if got := memory.Host().Weights; got < file || got > file+file/8+64<<10 {
				t.Errorf("%s, %+v: %d bytes of weights, the file has %d", weights, o, got, file)
			}
		}
	}
}

// TestMeasureEmbeddings has a context of embeddings counted: later, for a model that writes text,
// and less of it where inputs are shorter; at once, for an embedding model.
func TestMeasureEmbeddings(t *testing.T) {
	path := write(t, testmodel.Options{})
	o := Options{Context: 1024, Sequences: 2}
	long, err := Measure(path, o)
	if err != nil {
		t.Fatal(err)
	}
	o.EmbedLimit = 128
	short, err := Measure(path, o)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := long.Host(), short.Host(); !long.Generates || b.Later == 0 || a.Later < 2*b.Later || a.KV != b.KV ||
		a.Compute != b.Compute {
		t.Errorf("got %+v and %+v", a, b)
	}

	embeds, err := Measure(write(t, testmodel.Options{Pooling: PoolingMean}), Options{Context: 1024, Sequences: 200})
	if err != nil {
		t.Fatal(err)
	}
	if host := embeds.Host(); embeds.Generates || host.KV >= long.Host().KV || host.Later == 0 || host.Base == 0 {
		t.Errorf("an embedding model: %+v", host)
	}
}

// TestMeasureOddContexts lays out contexts of sizes that no power of two divides. The graph for embeddings has equally
// many tokens of each input.
func TestMeasureOddContexts(t *testing.T) {
	for _, pooling := range []int{PoolingNone, PoolingMean} {
		path := write(t, testmodel.Options{Pooling: pooling})
		for _, context := range []int{1, 149, 300, 769} {
			m, err := Measure(path, Options{Context: context, Sequences: 1})
			if err != nil || m.Host().Compute == 0 {
				t.Errorf("pooling %d, %d cells: %+v, %v", pooling, context, m, err)
			}
		}
	}
}

// TestMappedPagesAreReleased has the pages of repacked weights given back, and no others.
func TestMappedPagesAreReleased(t *testing.T) {
	if runtime.GOOS != "linux" || !cpu.X86.HasAVX2 {
		t.Skip("weights are not repacked on this machine for sure, or nobody tells what is mapped")
	}
	path := write(t, testmodel.Options{Type: "Q4_0", Width: 256, Hidden: 16384})
	resident := func(o LoadOptions) uint64 {
		m, err := LoadModel(path, o)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		return residentOf(t, path)
	}
	repacked := resident(LoadOptions{})
	mapped := resident(LoadOptions{NoRepack: true})
	if mapped < 4<<20 || repacked > mapped/4 {
		t.Errorf("%d bytes of the file are in memory where it is repacked, %d where it is not", repacked, mapped)
	}
}

// residentOf is how much of a mapped file is in this process's memory.
func residentOf(t *testing.T, path string) (sum uint64) {
	t.Helper()
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ours := false
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case strings.Contains(fields[0], "-"):
			ours = fields[len(fields)-1] == path
		case fields[0] == "Rss:" && ours:
			n, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += n << 10
		}
	}
	return sum
}
