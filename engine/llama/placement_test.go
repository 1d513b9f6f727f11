package llama

import (
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

// TestPlacementReachesLlama loads models with each setting of where they lie, and of what their file says.
func TestPlacementReachesLlama(t *testing.T) {
	path := write(t, testmodel.Options{})
	for name, tt := range map[string]struct {
		p    Placement
		want string // in the error; empty for none
	}{
		"nothing":              {},
		"tensors on the CPU":   {p: Placement{Overrides: []TensorOverride{{`^blk\.(0|2)\.ffn_(up|down|gate)\.`, CPU}}}},
		"a pattern for none":   {p: Placement{Overrides: []TensorOverride{{`exps`, CPU}}}},
		"no such device":       {p: Placement{Overrides: []TensorOverride{{`ffn`, "CUDA9"}}}, want: "no device CUDA9"},
		"not a pattern":        {p: Placement{Overrides: []TensorOverride{{`(`, CPU}}}, want: "load"},
		"an unknown GPU":       {p: Placement{Devices: []string{"CUDA9"}}, want: "no device CUDA9"},
		"proportions":          {p: Placement{TensorSplit: []float32{3, 1}}},
		"too many proportions": {p: Placement{TensorSplit: make([]float32, 1000)}, want: "at most"},
		"one GPU of none":      {p: Placement{SplitMode: SplitNone}},
		"tensors among none":   {p: Placement{SplitMode: SplitTensor}, want: "devices"},
		"an unknown mode":      {p: Placement{SplitMode: "diagonal"}, want: `not "diagonal"`},
		"a longer context":     {p: Placement{Metadata: []Metadata{{"llama.context_length", MetadataInt, "4096"}}}},
		"a float":              {p: Placement{Metadata: []Metadata{{"llama.rope.freq_base", MetadataFloat, "1e6"}}}},
		"a bool":               {p: Placement{Metadata: []Metadata{{"tokenizer.ggml.add_bos_token", MetadataBool, "false"}}}},
		"a text":               {p: Placement{Metadata: []Metadata{{"general.name", MetadataText, "other"}}}},
		"not an int": {
			p:    Placement{Metadata: []Metadata{{"llama.context_length", MetadataInt, "many"}}},
			want: "not of type int",
		},
		"an unknown type": {p: Placement{Metadata: []Metadata{{"a", "list", "1"}}}, want: "int, float, bool or str"},
		"a long key": {
			p:    Placement{Metadata: []Metadata{{strings.Repeat("k", 128), MetadataInt, "1"}}},
			want: "127 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := LoadModel(path, LoadOptions{Placement: tt.p})
			if err == nil {
				defer m.Close()
			}
			switch {
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			case tt.want == "" && err != nil:
				t.Error(err)
			case name == "a longer context" && m.info.ContextTrain != 4096:
				t.Errorf("it was trained for %d tokens", m.info.ContextTrain)
			case name == "a bool" && m.info.AddBOS:
				t.Error("it begins texts with a token")
			}
		})
	}
}

// TestContextParametersReachLlama lays out contexts, and computes with them.
func TestContextParametersReachLlama(t *testing.T) {
	path := write(t, testmodel.Options{Width: 256, Hidden: 256})
	base := Options{Context: 512, Sequences: 2}
	of := func(change func(*Options)) *DeviceMemory {
		o := base
		change(&o)
		m, err := Measure(path, o)
		if err != nil {
			t.Fatal(err)
		}
		return m.Host()
	}

	f16 := of(func(*Options) {})
	both := of(func(o *Options) { o.KVType = "q8_0" })
	values := of(func(o *Options) { o.VType = "q8_0" })
	if both.KV >= values.KV || values.KV >= f16.KV || f16.KV-values.KV != values.KV-both.KV {
		t.Errorf("%d bytes of KV cells in f16, %d with values in q8_0, %d with keys, too", f16.KV, values.KV, both.KV)
	}
	if micro := of(func(o *Options) { o.MicroBatch = 64 }); micro.Compute >= f16.Compute {
		t.Errorf("graphs of 64 tokens take %d bytes, of 512 %d", micro.Compute, f16.Compute)
	}
	if off := of(func(o *Options) { o.FlashAttn = "off" }); off.Compute <= f16.Compute {
		t.Errorf("without flash attention %d bytes of buffers, with it %d", off.Compute, f16.Compute)
	}

	o := base
	o.FlashAttn = "off"
	o.VType = "q8_0"
	if _, err := Measure(path, o); err == nil || !strings.Contains(err.Error(), "flash_attn") {
		t.Errorf("values in q8_0 without flash attention: %v", err)
	}
	o = base
	o.RoPE.Scaling = "cubic"
	if _, err := Measure(path, o); err == nil || !strings.Contains(err.Error(), `not "cubic"`) {
		t.Errorf("an unknown method: %v", err)
	}
}

// TestRoPEReachesLlama has logits change with each way of scaling.
func TestRoPEReachesLlama(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	logits := func(r RoPE) []float32 {
		c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 32, Threads: 1, RoPE: r})
		var b engine.Batch
		for i := range 16 {
			b.Add(engine.Token(300+7*i), i, 0, i == 15)
		}
		if err := c.Decode(&b); err != nil {
			t.Fatal(err)
		}
		row, err := c.Logits(15)
		if err != nil {
			t.Fatal(err)
		}
		return row
	}

	plain := logits(RoPE{})
	for name, r := range map[string]RoPE{
		"base":   {FreqBase: 500},
		"linear": {Scaling: "linear", FreqScale: 0.25},
		"yarn":   {Scaling: "yarn", FreqScale: 0.25, YaRNOrig: 64, BetaFast: Factor{true, 16}},
		"factor": {Scaling: "yarn", FreqScale: 0.25, ExtFactor: Factor{Given: true}},
	} {
		if slices.Equal(logits(r), plain) {
			t.Errorf("%s changes nothing", name)
		}
	}
	if !slices.Equal(logits(RoPE{Scaling: "none"}), plain) {
		t.Error("not to scale changes a model that is not scaled")
	}
}

// TestLock has weights locked in memory.
func TestLock(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell what is locked")
	}
	locked := func() int {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		match := regexp.MustCompile(`VmLck:\s+(\d+) kB`).FindSubmatch(text)
		n, err := strconv.Atoi(string(match[1]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}

	m, err := LoadModel(write(t, testmodel.Options{}), LoadOptions{Lock: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if weights := int(m.info.Size >> 10); locked() < weights/2 {
		t.Errorf("%d KiB are locked, of %d", locked(), weights)
	}
}
