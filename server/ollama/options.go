package ollama

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/server/wire"
)

// optionFields is the table of what options may hold. A wrong type is an error in Ollama's words; null
// leaves the default.
var optionFields = append(samplerOptions(), table{
	{
		Name: "seed",
		Type: wire.Custom(wire.Number(math.MinInt64, maxSeed), setSeed).Default(-1),
		Doc:  "Random seed, for reproducible answers; -1 chooses one at random.",
	},
	{
		Name: "num_predict",
		Type: wire.Custom(wire.Number(math.MinInt32, math.MaxInt32), func(r *request, v wire.Value) *fault.Error {
			n, e := integerOption(v, math.MinInt32, math.MaxInt32)
			r.maxTokens = int(max(n, 0))
			return e
		}).Default(-1),
		Doc: "Maximum tokens in the answer; 0 or less for no limit but the context.",
	},
	{
		Name: "num_ctx",
		Type: wire.Custom(wire.Number(0, math.MaxInt32), func(r *request, v wire.Value) *fault.Error {
			n, e := integerOption(v, 0, math.MaxInt32)
			r.context = int(n)
			return e
		}),
		Doc: "Maximum tokens to embed. More than the server's context (`--ctx-size`) is reported in `X-Ignored-Fields`.",
	},
	{
		Name: "stop",
		Type: wire.Custom(wire.ListOf(wire.String, maxStops), setStop),
		Doc:  "Stop sequences: texts that end the answer.",
	},
	{Name: "num_keep", Type: unseen(), Doc: "Applies to a sliding window, which serve does not use."},
	{Name: "num_batch", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "num_gpu", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "main_gpu", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "num_thread", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "use_mmap", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "use_mlock", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "numa", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "low_vram", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "vocab_only", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "draft_num_predict", Type: unseen(), Doc: "Controls how Ollama loads and runs models; here, server flags do."},
	{Name: "f16_kv", Type: named("true"), Doc: "Reported in `X-Ignored-Fields`: Ollama itself has removed it."},
	{Name: "tfs_z", Type: named("1", "1.0", "0"), Doc: "Reported in `X-Ignored-Fields`: Ollama itself has removed it."},
	{Name: "penalize_newline", Type: named("true"), Doc: "Reported in `X-Ignored-Fields`: Ollama itself has removed it."},
}...)

// samplerOptions declares the engine's parameters by the names that Ollama has for them, with its bounds and
// defaults.
func samplerOptions() (options table) {
	defaults := newRequest()
	for _, p := range engine.Parameters {
		if p.Ollama == "" {
			continue
		}
		switch p.Ollama {
		case "temperature":
			p.High = 100
		case "repeat_last_n":
			p.Low = -1
			p.Doc = strings.TrimSuffix(p.Doc, ".") + "; -1 for the whole context."
		}
		options = append(options, wire.Field[request]{Name: p.Ollama, Type: samplerOption(&p, defaults), Doc: p.Doc})
	}
	return options
}

func samplerOption(p *engine.Parameter, defaults *request) wire.Type[request] {
	if p.Float != nil {
		variable := func(r *request) *float32 { return p.Float(&r.sampling) }
		return floatOption(p.Low, p.High, variable).Default(*variable(defaults))
	}
	variable := func(r *request) *int32 { return p.Int(&r.sampling) }
	return intOption(int64(p.Low), int64(p.High), variable).Default(*variable(defaults))
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
	r.sampling.SetSeed(n)
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
			return item.Invalid("the stop sequence is too long: %d bytes (maximum %d).", len(s), maxStop)
		}
		if s != "" {
			r.stop = append(r.stop, s)
		}
	}
	return nil
}
