package openai

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"serve/engine"
	"serve/fault"
	"serve/server/wire"
)

// params contains the fields that chat and plain completions have in common.
type params struct {
	model        string
	sampling     engine.Sampling
	choices      int
	maxTokens    int // 0 for no limit
	stop         []string
	logprobs     bool
	top          int
	stream       bool
	streamOpts   bool // stream_options was given
	includeUsage bool
	tier         engine.Tier
	tierName     string // as answers tell it; empty if none was asked for
}

// defaultParams returns the defaults. The seed is random: answers are reproducible only if the client
// sets one.
func defaultParams() params {
	p := params{sampling: engine.DefaultSampling(), choices: 1}
	p.sampling.Seed = rand.Uint32N(math.MaxUint32)
	return p
}

// lift adds the fields of params to the table of a request that contains params.
func lift[T any](of func(*T) *params, own wire.Fields[T]) wire.Fields[T] {
	table := maps.Clone(own)
	for name, set := range commonFields {
		if _, overridden := own[name]; !overridden {
			table[name] = func(t *T, v wire.Value) *fault.Error { return set(of(t), v) }
		}
	}
	return table
}

// Limits on parameters.
const (
	maxStops     = 64
	maxStopBytes = 1024
	maxLogitBias = 1024
	maxBreakers  = 64
	maxWindow    = 1 << 16 // tokens that penalties look back on
)

func float(low, high float64, field func(*params) *float32) wire.Setter[params] {
	return func(p *params, v wire.Value) *fault.Error {
		f, e := v.Number(low, high)
		if e == nil {
			*field(p) = float32(f)
		}
		return e
	}
}

func integer(low, high int64, field func(*params) *int32) wire.Setter[params] {
	return func(p *params, v wire.Value) *fault.Error {
		n, e := v.Integer(low, high)
		if e == nil {
			*field(p) = int32(n)
		}
		return e
	}
}

// Setters shared with other endpoints, which may use other names for the fields.
var (
	setTemperature = float(0, 2, func(p *params) *float32 { return &p.sampling.Temperature })
	setTopP        = float(0, 1, func(p *params) *float32 { return &p.sampling.TopP })
	setTopK        = integer(-1, math.MaxInt32, func(p *params) *int32 { return &p.sampling.TopK })
	setMinP        = float(0, 1, func(p *params) *float32 { return &p.sampling.MinP })
)

func setSeed(p *params, v wire.Value) *fault.Error {
	n, e := v.Integer(math.MinInt64, math.MaxInt64)
	// llama.cpp's seeds have 32 bits, and the largest value means a random seed.
	p.sampling.Seed = uint32(n) ^ uint32(uint64(n)>>32)
	if p.sampling.Seed == math.MaxUint32 {
		p.sampling.Seed = 0
	}
	return e
}

// commonFields is the table of params: OpenAI's fields, then samplers of llama.cpp and vLLM.
var commonFields = wire.Fields[params]{
	"model": func(p *params, v wire.Value) (e *fault.Error) { p.model, e = v.Text(); return e },

	"temperature":       setTemperature,
	"top_p":             setTopP,
	"frequency_penalty": float(-2, 2, func(p *params) *float32 { return &p.sampling.FrequencyPenalty }),
	"presence_penalty":  float(-2, 2, func(p *params) *float32 { return &p.sampling.PresencePenalty }),
	"max_tokens":        setMaxTokens,
	"n": func(p *params, v wire.Value) *fault.Error {
		n, e := v.Integer(1, 128)
		p.choices = int(n)
		return e
	},
	"seed":           setSeed,
	"stop":           setStop,
	"logit_bias":     setLogitBias,
	"stream":         func(p *params, v wire.Value) (e *fault.Error) { p.stream, e = v.Bool(); return e },
	"stream_options": setStreamOptions,
	"user":           wire.Accepted[params](wire.IsString),

	"top_k":              setTopK,
	"min_p":              setMinP,
	"typical_p":          float(0, 1, func(p *params) *float32 { return &p.sampling.TypicalP }),
	"top_n_sigma":        float(-1, 100, func(p *params) *float32 { return &p.sampling.TopNSigma }),
	"xtc_probability":    float(0, 1, func(p *params) *float32 { return &p.sampling.XTCProbability }),
	"xtc_threshold":      float(0, 1, func(p *params) *float32 { return &p.sampling.XTCThreshold }),
	"dynatemp_range":     float(0, 2, func(p *params) *float32 { return &p.sampling.DynatempRange }),
	"dynatemp_exponent":  float(0, 10, func(p *params) *float32 { return &p.sampling.DynatempExponent }),
	"repeat_last_n":      integer(0, maxWindow, func(p *params) *int32 { return &p.sampling.RepeatLastN }),
	"repeat_penalty":     float(0.01, 10, func(p *params) *float32 { return &p.sampling.RepeatPenalty }),
	"repetition_penalty": float(0.01, 10, func(p *params) *float32 { return &p.sampling.RepeatPenalty }),
	"dry_multiplier":     float(0, 10, func(p *params) *float32 { return &p.sampling.DRYMultiplier }),
	"dry_base":           float(0, 10, func(p *params) *float32 { return &p.sampling.DRYBase }),
	"dry_allowed_length": integer(0, maxWindow, func(p *params) *int32 { return &p.sampling.DRYAllowedLength }),
	"dry_penalty_last_n": integer(0, maxWindow, func(p *params) *int32 { return &p.sampling.DRYPenaltyLastN }),
	"dry_sequence_breakers": func(p *params, v wire.Value) *fault.Error {
		list, e := v.Array(maxBreakers)
		if e != nil {
			return e
		}
		p.sampling.DRYSequenceBreakers, e = stringList(list)
		return e
	},
	"mirostat":     integer(0, 2, func(p *params) *int32 { return &p.sampling.Mirostat }),
	"mirostat_tau": float(0, 100, func(p *params) *float32 { return &p.sampling.MirostatTau }),
	"mirostat_eta": float(0, 1, func(p *params) *float32 { return &p.sampling.MirostatEta }),
	"ignore_eos":   func(p *params, v wire.Value) (e *fault.Error) { p.sampling.IgnoreEOS, e = v.Bool(); return e },
	"grammar":      wire.Refused[params]("Grammars from clients are not supported yet.", `""`),
}

// tiers are the values of service_tier and their effects. Those for reserved capacity are the same as
// the default.
var tiers = map[string]struct {
	tier engine.Tier
	name string
}{
	"auto":     {engine.TierDefault, "default"},
	"default":  {engine.TierDefault, "default"},
	"scale":    {engine.TierDefault, "default"},
	"flex":     {engine.TierFlex, "flex"},
	"priority": {engine.TierPriority, "priority"},
	"fast":     {engine.TierPriority, "priority"},
}

func setMaxTokens(p *params, v wire.Value) *fault.Error {
	n, e := v.Integer(1, math.MaxInt32)
	p.maxTokens = int(n)
	return e
}

func stringList(list []wire.Value) ([]string, *fault.Error) {
	out := make([]string, len(list))
	for i, v := range list {
		s, e := v.Text()
		if e != nil {
			return nil, e
		}
		out[i] = s
	}
	return out, nil
}

// setStop reads a string or a list of strings. OpenAI allows four; the limit here is higher.
func setStop(p *params, v wire.Value) *fault.Error {
	list := []wire.Value{v}
	if v.Raw[0] == '[' {
		var e *fault.Error
		if list, e = v.Array(maxStops); e != nil {
			return e
		}
	} else if v.Raw[0] != '"' {
		return v.WrongType("a string or an array of strings")
	}
	stops, e := stringList(list)
	if e != nil {
		return e
	}
	for i, s := range stops {
		if len(s) > maxStopBytes {
			return list[i].Invalid("a stop string of %d bytes, where %d are allowed.", len(s), maxStopBytes)
		}
	}
	p.stop = stops
	return nil
}

func setLogitBias(p *params, v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	if len(object) > maxLogitBias {
		return v.Invalid("%d tokens, where %d are allowed.", len(object), maxLogitBias)
	}

	for _, key := range slices.Sorted(maps.Keys(object)) {
		token, err := strconv.ParseInt(key, 10, 32)
		if err != nil || token < 0 {
			return v.Invalid("the key '%s' is not a token id.", key)
		}
		f, e := object[key].Number(-100, 100)
		if e != nil {
			return e
		}
		p.sampling.LogitBias = append(p.sampling.LogitBias, engine.LogitBias{
			Token: engine.Token(token),
			Bias:  float32(f),
		})
	}
	return nil
}

func setStreamOptions(p *params, v wire.Value) *fault.Error {
	p.streamOpts = true
	object, e := v.Object()
	if e != nil {
		return e
	}
	if e := wire.Only(object, "include_usage", "include_obfuscation"); e != nil {
		return e
	}
	if option, ok := object["include_usage"]; ok {
		if p.includeUsage, e = option.Bool(); e != nil {
			return e
		}
	}
	if option, ok := object["include_obfuscation"]; ok {
		// Padding against traffic analysis between a client and OpenAI.
		return wire.IsBool(option)
	}
	return nil
}

// check validates fields that depend on each other.
func (p *params) check() *fault.Error {
	if p.streamOpts && !p.stream {
		return fault.New(fault.InvalidValue, "stream_options",
			"The 'stream_options' parameter is only allowed when 'stream' is enabled.")
	}
	return nil
}

// request returns the engine's request, without the prompt.
func (p *params) request() engine.Request {
	return engine.Request{
		Caller:    engine.Caller{Tier: p.tier},
		Choices:   p.choices,
		MaxTokens: p.maxTokens,
		Sampling:  p.sampling,
		Stop:      p.stop,
		LogProbs:  p.logprobs,
		Top:       p.top,
	}
}
