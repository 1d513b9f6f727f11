package ollama

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"serve/fault"
	"serve/server/wire"
)

// optionFields is the table of what options may hold. A wrong type is an error in Ollama's words; null
// leaves the default.
var optionFields = table{
	{
		Name: "temperature",
		Type: floatOption(0, 100, func(r *request) *float32 { return &r.sampling.Temperature }).Default(defaultTemperature),
		Doc:  "How far probabilities are evened out.",
	},
	{
		Name: "top_k",
		Type: intOption(-1, math.MaxInt32, func(r *request) *int32 { return &r.sampling.TopK }).Default(defaultTopK),
		Doc:  "Only this many of the most probable tokens can be drawn.",
	},
	{
		Name: "top_p",
		Type: floatOption(0, 1, func(r *request) *float32 { return &r.sampling.TopP }).Default(defaultTopP),
		Doc:  "Only the most probable tokens that have this much probability together can be drawn.",
	},
	{
		Name: "min_p",
		Type: floatOption(0, 1, func(r *request) *float32 { return &r.sampling.MinP }).Default(0),
		Doc:  "Only tokens with this share of the best one's probability can be drawn.",
	},
	{
		Name: "typical_p",
		Type: floatOption(0, 1, func(r *request) *float32 { return &r.sampling.TypicalP }).Default(1),
		Doc:  "Locally typical sampling.",
	},
	{
		Name: "repeat_last_n",
		Type: intOption(-1, maxWindow, func(r *request) *int32 { return &r.sampling.RepeatLastN }).Default(64),
		Doc:  "Tokens that penalties look back on; -1 for the context.",
	},
	{
		Name: "repeat_penalty",
		Type: floatOption(0.01, 10, func(r *request) *float32 { return &r.sampling.RepeatPenalty }).Default(1),
		Doc:  "Penalty of tokens that were there already.",
	},
	{
		Name: "presence_penalty",
		Type: floatOption(-2, 2, func(r *request) *float32 { return &r.sampling.PresencePenalty }).Default(0),
		Doc:  "Penalty of tokens that were there.",
	},
	{
		Name: "frequency_penalty",
		Type: floatOption(-2, 2, func(r *request) *float32 { return &r.sampling.FrequencyPenalty }).Default(0),
		Doc:  "Penalty of tokens by how often they were there.",
	},
	{
		Name: "mirostat",
		Type: intOption(0, 2, func(r *request) *int32 { return &r.sampling.Mirostat }).Default(0),
		Doc:  "Version of Mirostat, 0 for none.",
	},
	{
		Name: "mirostat_tau",
		Type: floatOption(0, 100, func(r *request) *float32 { return &r.sampling.MirostatTau }).Default(5),
		Doc:  "Its target.",
	},
	{
		Name: "mirostat_eta",
		Type: floatOption(0, 1, func(r *request) *float32 { return &r.sampling.MirostatEta }).Default(0.1),
		Doc:  "Its rate.",
	},
	{
		Name: "seed",
		Type: wire.Custom(wire.Number(math.MinInt64, maxSeed), setSeed).Default(-1),
		Doc:  "Makes an answer reproducible; -1 is a random one.",
	},
	{
		Name: "num_predict",
		Type: wire.Custom(wire.Number(math.MinInt32, math.MaxInt32), func(r *request, v wire.Value) *fault.Error {
			n, e := integerOption(v, math.MinInt32, math.MaxInt32)
			r.maxTokens = int(max(n, 0))
			return e
		}).Default(-1),
		Doc: "Most tokens of the answer; not above 0 until it ends, or the context does.",
	},
	{
		Name: "num_ctx",
		Type: wire.Custom(wire.Number(0, math.MaxInt32), func(r *request, v wire.Value) *fault.Error {
			n, e := integerOption(v, 0, math.MaxInt32)
			r.context = int(n)
			return e
		}),
		Doc: "Limits what is embedded. More than the server's context is named; `--ctx-size` sets that.",
	},
	{
		Name: "stop",
		Type: wire.Custom(wire.ListOf(wire.String, maxStops), setStop),
		Doc:  "Texts that end the answer.",
	},
	{Name: "num_keep", Type: unseen(), Doc: "Of a window that moves, which there is not."},
	{Name: "num_batch", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "num_gpu", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "main_gpu", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "num_thread", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "use_mmap", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "use_mlock", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "numa", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "low_vram", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "vocab_only", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "draft_num_predict", Type: unseen(), Doc: "The server's flags say how models are loaded and computed."},
	{Name: "f16_kv", Type: named("true"), Doc: "Named: Ollama itself has dropped it."},
	{Name: "tfs_z", Type: named("1", "1.0", "0"), Doc: "Named: Ollama itself has dropped it."},
	{Name: "penalize_newline", Type: named("true"), Doc: "Named: Ollama itself has dropped it."},
}

// optionsSchema is the schema of the field options.
func optionsSchema() wire.Schema {
	properties := map[string]wire.Schema{}
	for _, f := range optionFields {
		properties[f.Name] = f.Type.Schema
	}
	return wire.Open(properties).Examples(`{"top_k":3}`)
}

// setOptions reads the options.
func setOptions(r *request, v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		i := slices.IndexFunc(optionFields, func(f wire.Field[request]) bool { return f.Name == name })
		if i < 0 {
			object[name].Ignore()
			continue
		}
		if e := optionFields[i].Type.Read(r, object[name]); e != nil {
			return e
		}
	}
	return nil
}

// optionType returns Ollama's error for an option of a wrong type.
func optionType(v wire.Value, expected string) *fault.Error {
	name := strings.TrimPrefix(v.Name, "options.")
	return fault.New(fault.WrongType, v.Name, "option %q must be of type %s", name, expected)
}

// floatOption is an option with a number within bounds.
func floatOption(low, high float64, of func(*request) *float32) wire.Type[request] {
	return wire.Custom(wire.Number(low, high), func(r *request, v wire.Value) *fault.Error {
		if _, err := strconv.ParseFloat(string(v.Raw), 64); err != nil {
			return optionType(v, "float32")
		}
		f, e := v.Number(low, high)
		if e == nil {
			*of(r) = float32(f)
		}
		return e
	})
}

// intOption is an option with an integer within bounds.
func intOption(low, high int64, of func(*request) *int32) wire.Type[request] {
	return wire.Custom(wire.Number(float64(low), float64(high)), func(r *request, v wire.Value) *fault.Error {
		n, e := integerOption(v, low, high)
		if e == nil {
			*of(r) = int32(n)
		}
		return e
	})
}

// integerOption reads an integer. Clients send floats, too, of which Ollama takes the whole part.
func integerOption(v wire.Value, low, high int64) (int64, *fault.Error) {
	f, err := strconv.ParseFloat(string(v.Raw), 64)
	if err != nil {
		return 0, optionType(v, "integer")
	}
	if f == math.Trunc(f) {
		return v.Integer(low, high) // which has all digits
	}
	whole := wire.Value{Name: v.Name, Raw: strconv.AppendFloat(nil, math.Trunc(f), 'f', 0, 64)}
	return whole.Integer(low, high)
}

// maxSeed is the largest float that is a seed.
const maxSeed = 1<<63 - 1024

// setSeed reads a seed; -1 is a random one, which is the default.
func setSeed(r *request, v wire.Value) *fault.Error {
	n, e := integerOption(v, math.MinInt64, maxSeed)
	if e != nil || n == -1 {
		return e
	}
	// llama.cpp's seeds have 32 bits, and the largest value means a random seed.
	r.sampling.Seed = uint32(n) ^ uint32(uint64(n)>>32)
	if r.sampling.Seed == math.MaxUint32 {
		r.sampling.Seed = 0
	}
	return nil
}

// setStop reads a list of strings.
func setStop(r *request, v wire.Value) *fault.Error {
	if v.Raw[0] != '[' {
		return optionType(v, "array")
	}
	list, e := v.Array(maxStops)
	if e != nil {
		return e
	}
	for _, item := range list {
		s, e := item.Text()
		if e != nil {
			return fault.New(fault.WrongType, v.Name, "option %q must be of an array of strings", "stop")
		}
		if len(s) > maxStop {
			return item.Invalid("a stop string of %d bytes, where %d are allowed.", len(s), maxStop)
		}
		if s != "" {
			r.stop = append(r.stop, s)
		}
	}
	return nil
}
