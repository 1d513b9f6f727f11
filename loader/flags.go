package loader

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"serve/engine/llama"
	"serve/flagset"
	"serve/prefixdir"
	"serve/rpc"
)

// kvTypes are the data types of the KV cache.
var kvTypes = []string{"f16", "q8_0", "q4_0"}

// Declare declares the flags of commands that load models.
func (o *ModelOptions) Declare(f flagset.Set) {
	flagset.Number(f, &o.Context, "ctx-size", 0, flagset.Within(0, 1<<24),
		"context size: maximum tokens per request, prompt plus answer; 0 for as much of the trained context as fits")
	flagset.Number(f, &o.Parallel, "parallel", 8, flagset.Within(1, 256),
		"requests processed at the same time; others wait in the queue")
	flagset.Number(f, &o.Cells, "kv-cells", 0, flagset.Within(0, 1<<28),
		"KV cache size in tokens, for all requests together; 0 for ctx-size times parallel, or what fits in memory")
	f.Choice(&o.KVType, "kv-type", "f16", kvTypes, "data `type` of the KV cache: f16, q8_0 or q4_0")
	f.Checked(&o.KeyType, "cache-type-k", "", kvTypeOrNone,
		"data `type` of the keys in the KV cache; by default --kv-type")
	f.Checked(&o.ValueType, "cache-type-v", "", kvTypeOrNone,
		"data `type` of the values in the KV cache; by default --kv-type")
	f.Choice(&o.BackendSampling, "backend-sampling", "off", []string{"auto", "on", "off"},
		"sample tokens on the device that computes the logits: `when`, off, on, or auto for GPUs only")
	flagset.Number(f, &o.Threads, "threads", 0, flagset.Within(0, 512),
		"number of compute threads; 0 for one per physical core")
	f.Checked(&o.Kernels, "kernels", AutoKernels, ValidKernels,
		"CPU kernels to use: auto to measure and use the fastest, or a `name` that serve doctor lists")
	flagset.Number(f, &o.Batch, "batch-size", 0, flagset.Within(0, 1<<16),
		"maximum tokens of a step, of all requests together; 0 for 512")
	flagset.Number(f, &o.MicroBatch, "ubatch-size", 0, flagset.Within(0, 1<<16),
		"maximum tokens of a step that are computed at once, which takes memory; 0 for batch-size, at most 512")
	o.declareDevices(f)
	o.declareMemory(f)
	o.declareModel(f)
}

// declareDevices declares the flags for GPUs, and for what lies on them.
func (o *ModelOptions) declareDevices(f flagset.Set) {
	flagset.Parsed(f, &o.GPULayers, "gpu-layers", "layers", ParseLayers, Layers.String,
		"number of layers to offload to GPUs, whole, or all; auto for as many as fit, with experts or feed-forward "+
			"networks in main memory if that is better")
	f.List(&o.Devices, "device", "`GPU` to use, such as CUDA0, in this order; none for the CPU; by default all")
	flagset.Parsed(f, &o.RPC, "rpc", "list", rpc.ParseAddresses, rpc.FormatAddresses,
		"use the devices of other processes too, those of serve rpc at HOST:PORT, separated by commas; in one trusted "+
			"network only (docs/gpu.md)")
	f.Choice(&o.SplitMode, "split-mode", llama.SplitLayer,
		[]string{llama.SplitNone, llama.SplitLayer, llama.SplitRow, llama.SplitTensor},
		"how several GPUs share a model: none (one of them computes it), layer (each has some layers), row or tensor (each "+
			"has a part of every tensor; experimental)")
	flagset.Number(f, &o.MainGPU, "main-gpu", 0, flagset.Within(0, 255),
		"GPU of --split-mode none, counted from 0 in the order of --device")
	flagset.Parsed(f, &o.TensorSplit, "tensor-split", "list", parseSplit, formatSplit,
		"proportions of the model on each GPU, such as 3,1; by default chosen by their free memory")
	flagset.Parsed(f, &o.CPUExperts, "n-cpu-moe", "layers", parseExperts, Layers.String,
		"number of first layers whose experts stay in main memory; auto for as few as must")
	f.Toggle(&o.AllExperts, "cpu-moe", false, "keep the experts of all layers in main memory")
	flagset.Parsed(f, &o.Overrides, "override-tensor", "list", parseOverrides, formatOverrides,
		"where tensors lie whose names match a regular expression: PATTERN=CPU or PATTERN=GPU, separated by commas")
	f.Choice(&o.FlashAttn, "flash-attn", "auto", []string{"on", "off", "auto"},
		"compute attention in one kernel (on, off), or wherever a device has one (auto)")
	flagset.Parsed(f, &o.Limits, "device-memory", "list", parseLimits, formatLimits,
		"maximum memory to take: SIZE for each GPU, or GPU=SIZE and host=SIZE, separated by commas")
	flagset.Parsed(f, &o.Reserve, "memory-reserve", "size", parseReserve, formatReserve,
		"memory to leave free on each device; unless set, one eighth on devices smaller than 8GiB")
}

// declareMemory declares the flags for main memory.
func (o *ModelOptions) declareMemory(f flagset.Set) {
	f.Toggle(&o.NoMMap, "no-mmap", false, "read the model file into memory instead of mapping it")
	f.Toggle(&o.Lock, "mlock", false,
		"keep weights from being swapped out of main memory; the model file is read instead of mapped")
	f.Toggle(&o.NoRepack, "no-repack", false, "keep CPU weights in the file's layout, which is slower")
	f.Checked(&o.NUMA, "numa", "", validNUMA,
		"`strategy` for several memory nodes: distribute, isolate or numactl; it needs --isolate=false")
	f.Toggle(&o.Reproducible, "reproducible", false,
		"give the same answer to the same request, alone or in a crowd: on the CPU, slower (docs/reproducible.md)")
	flagset.Parsed(f, &o.PrefixCache, "prefix-cache-memory", "size", parseCache, formatCache,
		"host memory for prefixes that lose their slots, for each model; 0 for none, auto for a part of what is free")
	f.Text(&o.PrefixFolder, "prefix-cache-folder", "",
		"`folder` in which prefixes are kept, encrypted, so that conversations go on after a restart; by default none")
	flagset.Size(f, &o.PrefixFolderSize, "prefix-cache-folder-size", prefixdir.DefaultBytes,
		flagset.Within(int64(1<<20), int64(1<<50)), "most that the files in --prefix-cache-folder take, of all models")
}

// declareModel declares the flags that replace what a model's file says.
func (o *ModelOptions) declareModel(f flagset.Set) {
	r := &o.RoPE
	f.Checked(&r.Scaling, "rope-scaling", "", validScaling,
		"`method` of scaling rotary embeddings: none, linear or yarn; by default the model's")
	real := func(p *float64, name, usage string) {
		flagset.Parsed(f, p, name, "number", parsePositive, formatReal, usage+"; by default the model's")
	}
	real(&r.FreqBase, "rope-freq-base", "base frequency of rotary embeddings")
	real(&r.FreqScale, "rope-freq-scale", "factor of their frequencies: 0.25 makes the context four times as long")
	flagset.Number(f, &r.YaRNOrig, "yarn-orig-ctx", 0, flagset.Within(0, 1<<24),
		"YaRN: tokens that the model was trained for before; 0 for the model's")
	factor := func(p *llama.Factor, name, usage string) {
		flagset.Parsed(f, p, name, "number", parseFactor, formatFactor, "YaRN: "+usage+"; by default the model's")
	}
	factor(&r.ExtFactor, "yarn-ext-factor", "how much is extrapolated; 0 interpolates all")
	factor(&r.AttnFactor, "yarn-attn-factor", "scale of attention")
	factor(&r.BetaSlow, "yarn-beta-slow", "high correction dimension")
	factor(&r.BetaFast, "yarn-beta-fast", "low correction dimension")
	flagset.Parsed(f, &o.Metadata, "override-kv", "list", parseMetadata, formatMetadata,
		"metadata in place of the file's: KEY=TYPE:VALUE, separated by commas, with the types int, float, bool and str")
}

func kvTypeOrNone(text string) error {
	if text != "" && !slices.Contains(kvTypes, text) {
		return errors.New("must be f16, q8_0 or q4_0")
	}
	return nil
}

func validScaling(text string) error {
	if text != "" && !slices.Contains(llama.RoPEScalings(), text) {
		return errors.New("must be none, linear or yarn")
	}
	return nil
}

func validNUMA(text string) error {
	if text != "" && !slices.Contains([]string{"distribute", "isolate", "numactl"}, text) {
		return errors.New("must be distribute, isolate or numactl")
	}
	return nil
}

// parsePositive reads a number above 0.
func parsePositive(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 32)
	if err != nil || !(n > 0) {
		return 0, errors.New("must be a number above 0")
	}
	return n, nil
}

func formatReal(n float64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatFloat(n, 'g', -1, 32)
}

func parseFactor(text string) (llama.Factor, error) {
	n, err := strconv.ParseFloat(text, 32)
	if err != nil || !(n >= 0) {
		return llama.Factor{}, errors.New("must be a number of at least 0")
	}
	return llama.Factor{Given: true, N: n}, nil
}

func formatFactor(f llama.Factor) string {
	if !f.Given {
		return ""
	}
	return strconv.FormatFloat(f.N, 'g', -1, 32)
}

// fields divides a list at its commas; none for an empty one.
func fields(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func parseSplit(text string) (list []float32, err error) {
	sum := 0.0
	for _, part := range fields(text) {
		n, err := strconv.ParseFloat(strings.TrimSpace(part), 32)
		if err != nil || !(n >= 0) || n > 1e9 {
			return nil, errors.New("must be numbers such as 3,1")
		}
		sum += n
		list = append(list, float32(n))
	}
	if text != "" && sum == 0 {
		return nil, errors.New("must have a number above 0")
	}
	return list, nil
}

func formatSplit(list []float32) string {
	var parts []string
	for _, n := range list {
		parts = append(parts, strconv.FormatFloat(float64(n), 'g', -1, 32))
	}
	return strings.Join(parts, ",")
}

func parseExperts(text string) (Layers, error) {
	if text == autoLayers {
		return Layers{}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return Layers{}, errors.New("must be a number of layers or auto")
	}
	return Layers{Given: true, N: n}, nil
}

func parseOverrides(text string) (list []llama.TensorOverride, err error) {
	for _, part := range fields(text) {
		pattern, device, ok := cutLast(part, "=")
		if !ok || pattern == "" || device == "" {
			return nil, errors.New("must be PATTERN=DEVICE, such as exps=CPU")
		}
		if _, err := regexp.Compile(pattern); err != nil {
			return nil, fmt.Errorf("has the pattern %q, which is no regular expression: %w", pattern, err)
		}
		list = append(list, llama.TensorOverride{Pattern: pattern, Device: device})
	}
	return list, nil
}

func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

func formatOverrides(list []llama.TensorOverride) string {
	var parts []string
	for _, o := range list {
		parts = append(parts, o.Pattern+"="+o.Device)
	}
	return strings.Join(parts, ",")
}

func parseMetadata(text string) (list []llama.Metadata, err error) {
	for _, part := range fields(text) {
		key, typed, ok := strings.Cut(part, "=")
		kind, value, typeGiven := strings.Cut(typed, ":")
		if !ok || !typeGiven || key == "" {
			return nil, errors.New("must be KEY=TYPE:VALUE, such as tokenizer.ggml.add_bos_token=bool:false")
		}
		m := llama.Metadata{Key: key, Type: kind, Value: value}
		if _, err := m.Parse(); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

func formatMetadata(list []llama.Metadata) string {
	var parts []string
	for _, m := range list {
		parts = append(parts, m.Key+"="+m.Type+":"+m.Value)
	}
	return strings.Join(parts, ",")
}

func parseLimits(text string) (DeviceLimits, error) {
	var l DeviceLimits
	for _, part := range fields(text) {
		name, size, named := strings.Cut(part, "=")
		if !named {
			name = ""
			size = part
		}
		n, err := flagset.ParseSize(size)
		if err == nil && n == 0 {
			err = errors.New("must be above 0")
		}
		if err != nil {
			return nil, err
		}
		l = append(l, Limit{Device: name, Bytes: n})
	}
	return l, nil
}

func formatLimits(l DeviceLimits) string {
	var parts []string
	for _, limit := range l {
		text := flagset.FormatSize(limit.Bytes)
		if limit.Device != "" {
			text = limit.Device + "=" + text
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ",")
}

// parseReserve reads the value of --memory-reserve, a size.
func parseReserve(text string) (Reserve, error) {
	n, err := flagset.ParseSize(text)
	return Reserve{Given: true, Bytes: n}, err
}

func formatReserve(r Reserve) string {
	if !r.Given {
		return "1GiB"
	}
	return flagset.FormatSize(r.Bytes)
}

// parseCache reads the value of --prefix-cache-memory, a size or auto.
func parseCache(text string) (CacheSize, error) {
	if text == autoLayers {
		return CacheSize{}, nil
	}
	size, err := parseReserve(text)
	return CacheSize{Given: size.Given, Bytes: size.Bytes}, err
}

func formatCache(s CacheSize) string {
	if !s.Given {
		return autoLayers
	}
	return flagset.FormatSize(s.Bytes)
}
