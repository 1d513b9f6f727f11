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
var optionFields = tableOf(fields{
	"temperature":       floatOption(0, 100, func(r *request) *float32 { return &r.sampling.Temperature }),
	"top_p":             floatOption(0, 1, func(r *request) *float32 { return &r.sampling.TopP }),
	"min_p":             floatOption(0, 1, func(r *request) *float32 { return &r.sampling.MinP }),
	"typical_p":         floatOption(0, 1, func(r *request) *float32 { return &r.sampling.TypicalP }),
	"repeat_penalty":    floatOption(0.01, 10, func(r *request) *float32 { return &r.sampling.RepeatPenalty }),
	"presence_penalty":  floatOption(-2, 2, func(r *request) *float32 { return &r.sampling.PresencePenalty }),
	"frequency_penalty": floatOption(-2, 2, func(r *request) *float32 { return &r.sampling.FrequencyPenalty }),
	"mirostat_tau":      floatOption(0, 100, func(r *request) *float32 { return &r.sampling.MirostatTau }),
	"mirostat_eta":      floatOption(0, 1, func(r *request) *float32 { return &r.sampling.MirostatEta }),

	"top_k":         intOption(-1, math.MaxInt32, func(r *request) *int32 { return &r.sampling.TopK }),
	"repeat_last_n": intOption(-1, maxWindow, func(r *request) *int32 { return &r.sampling.RepeatLastN }),
	"mirostat":      intOption(0, 2, func(r *request) *int32 { return &r.sampling.Mirostat }),
	"seed":          honour(setSeed),
	"num_predict": honour(func(r *request, v wire.Value) *fault.Error {
		n, e := integerOption(v, math.MinInt32, math.MaxInt32)
		r.maxTokens = int(max(n, 0)) // negative: until it ends, or the context is full
		return e
	}),
	"num_ctx": honour(func(r *request, v wire.Value) *fault.Error {
		n, e := integerOption(v, 0, math.MaxInt32)
		r.context = int(n)
		return e
	}),
	"stop": honour(setStop),

	// Of how a model is loaded and computed; the answer is the same.
	"num_keep":          accept(), // of a window that moves, which there is not
	"num_batch":         accept(),
	"num_gpu":           accept(),
	"main_gpu":          accept(),
	"num_thread":        accept(),
	"use_mmap":          accept(),
	"use_mlock":         accept(),
	"numa":              accept(),
	"low_vram":          accept(),
	"vocab_only":        accept(),
	"draft_num_predict": accept(),

	// Ollama itself has dropped these.
	"f16_kv":           ignore("true"),
	"tfs_z":            ignore("1", "1.0", "0"),
	"penalize_newline": ignore("true"),
})

// setOptions reads the options.
func setOptions(r *request, v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		set, known := optionFields.setters[name]
		if !known {
			r.ignore(object[name].Name)
			continue
		}
		if e := set(r, object[name]); e != nil {
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
func floatOption(low, high float64, of func(*request) *float32) field {
	return honour(func(r *request, v wire.Value) *fault.Error {
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
func intOption(low, high int64, of func(*request) *int32) field {
	return honour(func(r *request, v wire.Value) *fault.Error {
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

// setSeed reads a seed; -1 is a random one, which is the default.
func setSeed(r *request, v wire.Value) *fault.Error {
	n, e := integerOption(v, math.MinInt64, math.MaxInt64)
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
