package loader

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"serve/engine/llama"
	"serve/fit"
	"serve/fit/fittest"
)

// modelNamed returns one of the models of fittest.All.
func modelNamed(t *testing.T, name string) *fittest.Model {
	t.Helper()
	all := fittest.All()
	i := slices.IndexFunc(all, func(m *fittest.Model) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("there is no model %s", name)
	}
	return all[i]
}

// layOut measures a model as llama.cpp places its tensors: by the rules of llama_model_base::load_tensors, one by one.
// Every GPU takes so many bytes for its graphs.
func layOut(m *fittest.Model, buffers uint64, devices ...llama.DeviceMemory) measureFunc {
	facts := fit.ModelOf(m.Header(), m.Tensors, nil)
	layers := len(facts.Layers)
	return func(o llama.Options) (*llama.Memory, error) {
		memory := &llama.Memory{Generates: true}
		for _, d := range devices {
			used := d.Type == "cpu" || len(o.Model.Devices) == 0 || slices.Contains(o.Model.Devices, d.Name)
			if used && (d.Type == "cpu" || !o.Model.CPUOnly) {
				memory.Devices = append(memory.Devices, d)
			}
		}
		gpus := len(memory.Devices) - 1
		at := func(layer int) *llama.DeviceMemory { return &memory.Devices[deviceOf(layer, layers, gpus, o, memory)] }

		for _, tensor := range m.Tensors {
			d := memory.Host()
			layer := layerIn(tensor.Name)
			if layer >= 0 {
				d = at(layer)
			} else if tensor.Name != "token_embd.weight" {
				d = at(layers)
			}
			for _, override := range o.Model.Overrides {
				if regexp.MustCompile(override.Pattern).MatchString(tensor.Name) {
					d = memory.Host()
					break
				}
			}
			d.Weights += tensor.Bytes
		}

		cells := cmp.Or(o.Cells, o.Context*o.Sequences)
		for i, l := range facts.Layers {
			at(i).KV += uint64(cells*2*(l.K+l.V)) + l.State*uint64(o.Sequences)
		}
		for i := range memory.Devices {
			memory.Devices[i].Compute = buffers
		}
		return memory, nil
	}
}

func layerIn(name string) int {
	if rest, ok := strings.CutPrefix(name, "blk."); ok {
		number, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(number); err == nil {
			return n
		}
	}
	return -1
}

// deviceOf returns the device of a layer, the output being the one after the last.
func deviceOf(layer, layers, gpus int, o llama.Options, m *llama.Memory) int {
	on := o.Model.GPULayers
	if on < 0 || on > layers+1 {
		on = layers + 1
	}
	first := layers + 1 - on
	if gpus == 0 || layer < first {
		return len(m.Devices) - 1
	}

	var ends []float32
	var sum float32
	for i := range gpus {
		part := float32(m.Devices[i].Free)
		if len(o.Model.TensorSplit) > 0 {
			part = o.Model.TensorSplit[i]
		}
		sum += part
		ends = append(ends, sum)
	}
	return slices.IndexFunc(ends, func(end float32) bool { return end/sum > float32(layer-first)/float32(on) })
}

// TestProposal plans models that do not fit on GPUs whole, with tensors placed as llama.cpp does.
func TestProposal(t *testing.T) {
	ram := hostOf(58*gib, 64*gib)
	for name, tt := range map[string]struct {
		model   string
		o       ModelOptions
		buffers uint64 // MiB; package fit expects less than 500
		devices []llama.DeviceMemory
		choice  string // what the decision contains
		cost    string
		words   string // of the error, if there is one
	}{
		"all fits": {model: "Llama 3.1 8B", devices: []llama.DeviceMemory{card("CUDA0", 23*gib, 24*gib), ram},
			choice: "all 32 layers on CUDA0"},
		"fewer cells": {model: "Llama 3.1 8B", devices: []llama.DeviceMemory{card("CUDA0", 10*gib, 12*gib), ram},
			choice: "of 65536 KV cells", cost: "requests of full length"},
		"experts": {model: "Qwen3 30B-A3B", devices: []llama.DeviceMemory{card("CUDA0", 15*gib, 16*gib), ram},
			choice: "all 48 layers on CUDA0 but the experts of", cost: "each token reads"},
		"experts, and buffers are larger than expected": {model: "Qwen3 30B-A3B", buffers: 3000,
			devices: []llama.DeviceMemory{card("CUDA0", 15*gib, 16*gib), ram}, choice: "but the experts of"},
		"experts of two unlike cards": {model: "gpt-oss 120B", devices: []llama.DeviceMemory{
			card("CUDA0", 7*gib, 8*gib), card("CUDA1", 23*gib, 24*gib), ram}, choice: "but the experts of"},
		"feed-forward networks": {model: "Mistral Small 24B",
			devices: []llama.DeviceMemory{card("CUDA0", 11*gib, 12*gib), ram}, choice: "but the feed-forward networks of"},
		"layers": {model: "Llama 3.3 70B", devices: []llama.DeviceMemory{card("CUDA0", 7*gib, 8*gib), ram},
			choice: "of 80 layers on CUDA0 but the feed-forward networks of all of them"},
		"none": {model: "Llama 3.1 8B", devices: []llama.DeviceMemory{card("CUDA0", gib/4, 24*gib), ram},
			choice: "all on the CPU"},
		"nothing fits": {model: "DeepSeek V3 671B", devices: []llama.DeviceMemory{card("CUDA0", 23*gib, 24*gib), ram},
			words: "needs"},

		"cells that were asked for stay": {model: "Llama 3.1 8B", o: ModelOptions{Cells: 65536},
			devices: []llama.DeviceMemory{card("CUDA0", 11*gib, 12*gib), ram}, choice: "but the feed-forward networks of"},
		"layers that were asked for stay whole": {model: "Qwen3 30B-A3B", o: ModelOptions{GPULayers: Layers{Given: true, N: -1}},
			devices: []llama.DeviceMemory{card("CUDA0", 15*gib, 16*gib), ram}, words: "CUDA0 needs"},
		"experts that were asked for stay": {model: "Qwen3 30B-A3B", o: ModelOptions{CPUExperts: Layers{Given: true, N: 40}},
			devices: []llama.DeviceMemory{card("CUDA0", 23*gib, 24*gib), ram}, choice: "all 48 layers on CUDA0", cost: "each token reads"},
		"a limit of a card's memory": {model: "Qwen3 30B-A3B", o: ModelOptions{Limits: DeviceLimits{{"CUDA0", 10 * gib}}},
			devices: []llama.DeviceMemory{card("CUDA0", 23*gib, 24*gib), ram}, choice: "but the experts of"},
		"a limit that is too little": {model: "Llama 3.1 8B", o: ModelOptions{Limits: DeviceLimits{{"host", 2 * gib}}},
			devices: []llama.DeviceMemory{ram}, words: "--device-memory allows 2.0 GiB"},
		"one of two cards": {model: "Qwen3 30B-A3B", o: ModelOptions{Devices: []string{"CUDA1"}},
			devices: []llama.DeviceMemory{card("CUDA0", 23*gib, 24*gib), card("CUDA1", 15*gib, 16*gib), ram},
			choice:  "all 48 layers on CUDA1 but the experts of"},
		"proportions that were asked for": {model: "Qwen3 30B-A3B", o: ModelOptions{TensorSplit: []float32{1, 1}},
			devices: []llama.DeviceMemory{card("CUDA0", 12*gib, 16*gib), card("CUDA1", 9*gib, 16*gib), ram},
			choice:  "CUDA0 (25), CUDA1 (23)"},
	} {
		t.Run(name, func(t *testing.T) {
			m := modelNamed(t, tt.model)
			tt.o.Parallel = 8
			facts, err := factsOf(m.Header(), nil, &tt.o)
			if err != nil {
				t.Fatal(err)
			}
			p := planner{
				o:       tt.o,
				train:   8192,
				facts:   facts,
				shrink:  true,
				measure: layOut(m, cmp.Or(tt.buffers, 400)*mib, tt.devices...),
			}
			lo, memory, err := p.plan()
			if tt.words != "" {
				if !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), tt.words) {
					t.Errorf("got %v, want %q", err, tt.words)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}

			d := p.decision(lo, memory)
			t.Log(d)
			if !strings.Contains(d.Choice, tt.choice) || !strings.Contains(d.Cost, tt.cost) {
				t.Errorf("got %s", d)
			}
			for _, b := range tt.o.budgetsOf(memory) {
				if !b.fits() {
					t.Errorf("%s takes %d of %d", b.name, b.plan.Most(), b.room())
				}
			}
		})
	}
}

// TestOptionsTogether refuses options that contradict each other, in a sentence that names them.
func TestOptionsTogether(t *testing.T) {
	all := Layers{Given: true, N: -1}
	quantized := ModelOptions{KVType: "f16", ValueType: "q8_0"}
	with := func(o ModelOptions, change func(*ModelOptions)) ModelOptions {
		o.Parallel = cmp.Or(o.Parallel, 8)
		o.KVType = cmp.Or(o.KVType, "f16")
		change(&o)
		return o
	}
	tensor := func(change func(*ModelOptions)) ModelOptions {
		return with(ModelOptions{SplitMode: llama.SplitTensor}, change)
	}
	gpus := []llama.Device{{Name: "CUDA0", Type: "gpu"}, {Name: "CUDA1", Type: "gpu"}}

	for words, o := range map[string]ModelOptions{
		"--device none is for":                             {Devices: []string{"none", "CUDA0"}},
		"--gpu-layers all needs a GPU":                     {Devices: []string{"none"}, GPULayers: all},
		"--main-gpu chooses the GPU of --split-mode none":  {MainGPU: 1},
		"--main-gpu 2: --device names only 2":              {MainGPU: 2, SplitMode: "none", Devices: []string{"CUDA0", "CUDA1"}},
		"--main-gpu 2: there are 2 GPUs":                   {MainGPU: 2, SplitMode: "none"},
		"--tensor-split divides a model":                   {TensorSplit: []float32{1, 2}, SplitMode: "none"},
		"--tensor-split has 1 proportions for the 2":       {TensorSplit: []float32{1}, Devices: []string{"CUDA0", "CUDA1"}},
		"--tensor-split has 3 proportions for 2":           {TensorSplit: []float32{1, 1, 1}},
		"--cpu-moe keeps all experts":                      {AllExperts: true, CPUExperts: Layers{Given: true, N: 3}},
		"--flash-attn off needs values in f16":             with(quantized, func(o *ModelOptions) { o.FlashAttn = "off" }),
		"--batch-size 4 is too small":                      {Batch: 4, Parallel: 8},
		"--ubatch-size 600 is more":                        {MicroBatch: 600},
		"--reproducible cannot be held on a GPU":           {Reproducible: true, Devices: []string{"CUDA0"}},
		"--split-mode tensor needs flash attention":        tensor(func(o *ModelOptions) { o.FlashAttn = "off" }),
		"--split-mode tensor needs KV cells in f16":        tensor(func(o *ModelOptions) { o.KeyType = "q8_0" }),
		"--split-mode tensor cannot keep experts":          tensor(func(o *ModelOptions) { o.AllExperts = true }),
		"--split-mode tensor places every tensor itself":   tensor(func(o *ModelOptions) { o.Overrides = []llama.TensorOverride{{Pattern: "a", Device: "CPU"}} }),
		"--device CUDA7: there is CUDA0":                   {Devices: []string{"CUDA7"}},
		"--override-tensor a=CUDA7: a tensor lies":         {Overrides: []llama.TensorOverride{{Pattern: "a", Device: "CUDA7"}}},
		"--device-memory CUDA7: there is CUDA0":            {Limits: DeviceLimits{{"CUDA7", 1}}},
		"--split-mode row: llama.cpp has it for SYCL only": {SplitMode: "row"},
	} {
		o = with(o, func(*ModelOptions) {})
		err := o.check()
		if err == nil {
			err = o.checkDevices(gpus)
		}
		if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: got %v", words, err)
		}
	}

	for name, o := range map[string]ModelOptions{
		"nothing":            {},
		"all":                {GPULayers: all, Devices: []string{"CUDA1", "CUDA0"}, TensorSplit: []float32{3, 1}},
		"one":                {SplitMode: "none", MainGPU: 1},
		"tensor":             {SplitMode: "tensor", FlashAttn: "on"},
		"experts":            {CPUExperts: Layers{Given: true, N: 3}, Overrides: []llama.TensorOverride{{Pattern: "a", Device: "CUDA1"}}},
		"types":              {KeyType: "q8_0", ValueType: "q4_0", FlashAttn: "auto"},
		"the CPU":            {Devices: []string{"none"}, Reproducible: true, GPULayers: Layers{Given: true}},
		"batches":            {Batch: 2048, MicroBatch: 512},
		"limits of the host": {Limits: DeviceLimits{{"", 1}, {"host", 2}}},
	} {
		o = with(o, func(*ModelOptions) {})
		if err := errors.Join(o.check(), o.checkDevices(gpus)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFlagTexts reads values of flags, prints them as they were, and refuses others.
func TestFlagTexts(t *testing.T) {
	same := func(text string, print string, err error, words string) {
		t.Helper()
		if words == "" && (err != nil || print != text) || words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
			t.Errorf("%q: got %q, %v, want %q", text, print, err, words)
		}
	}
	for text, words := range map[string]string{"": "", "3,1": "", "0.5,0": "", "a": "such as 3,1", "0,0": "above 0", "-1,2": "such as"} {
		v, err := parseSplit(text)
		same(text, formatSplit(v), err, words)
	}
	for text, words := range map[string]string{"exps=CPU,a=b=CUDA0": "", "exps": "PATTERN=DEVICE", "(=CPU": "no regular expression"} {
		v, err := parseOverrides(text)
		same(text, formatOverrides(v), err, words)
	}
	for text, words := range map[string]string{"a.b=int:3,c=str:x:y": "", "a": "KEY=TYPE:VALUE", "a=int": "KEY=TYPE:VALUE",
		"a=int:x": "not of type int", "a=list:1": "int, float, bool or str"} {
		v, err := parseMetadata(text)
		same(text, formatMetadata(v), err, words)
	}
	for text, words := range map[string]string{"8GiB": "", "CUDA0=20GiB,host=1TiB": "", "CUDA0=much": "such as", "0": "above 0"} {
		v, err := parseLimits(text)
		same(text, formatLimits(v), err, words)
	}
	for text, words := range map[string]string{"all": "", "auto": "", "12": "", "few": "number, all or auto"} {
		v, err := ParseLayers(text)
		same(text, v.String(), err, words)
	}
}

// TestReplaceMetadata replaces what a header says, with what llama.cpp can take.
func TestReplaceMetadata(t *testing.T) {
	h := modelNamed(t, "Llama 3.1 8B").Header()
	for text, words := range map[string]string{
		"llama.context_length=int:4096":       "",
		"general.name=str:other":              "",
		"llama.new=bool:true":                 "",
		"llama.context_length=float:1":        "is of type int in the file",
		"llama.block_count=int:1000000":       "must be a number up to",
		"general.architecture=str:qwen3":      "cannot be replaced",
		"llama.embedding_length=int:-1":       "must be a number up to",
		"llama.attention.head_count=str:many": "is of type int",
	} {
		list, err := parseMetadata(text)
		if err != nil {
			t.Fatal(err)
		}
		o := ModelOptions{Metadata: list}
		err = o.replaceMetadata(h)
		if words == "" && err != nil || words != "" && (!errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), words)) {
			t.Errorf("%s: got %v, want %q", text, err, words)
		}
	}
	if h.TrainContext() != 4096 || h.Uint("llama.block_count") != 32 || h.Architecture() != "llama" {
		t.Errorf("got %v", h.Values)
	}
}
