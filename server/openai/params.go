package openai

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

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
	predict      int // the limit of other servers' clients: negative for none, 0 if it was not given
	stop         []string
	stopTokens   []engine.Token
	cacheSalt    string
	includeStop  bool // the answer contains the stop string that ended it
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

// Limits on parameters.
const (
	maxStops     = 64
	maxStopBytes = 1024
	maxLogitBias = 1024
	maxBreakers  = 64
	maxBreaker   = 64 // bytes
)

// modelField declares the name of the model.
func modelField[T any](required bool, variable func(*T) *string) wire.Field[T] {
	return wire.Field[T]{
		Name:     "model",
		Required: required,
		Type:     wire.StringOf(variable),
		Doc:      "Name of a model that `GET /v1/models` lists.",
	}
}

// userField declares the name of the client's user, which no answer depends on.
func userField[T any]() wire.Field[T] {
	return wire.Field[T]{
		Name: "user",
		Type: wire.Ignore[T](wire.String),
		Doc:  "Identifier of the client's user.",
	}
}

// commonFields is the table of params: OpenAI's fields, then the numbers of the samplers.
var commonFields = slices.Concat(wire.Table[params]{
	modelField(true, func(p *params) *string { return &p.model }),
	{
		Name: "max_tokens",
		Type: wire.IntegerOf(1, math.MaxInt32, func(p *params) *int { return &p.maxTokens }),
		Doc:  "Maximum tokens in an answer.",
	},
	{
		Name: "n",
		Type: wire.IntegerOf(1, 128, func(p *params) *int { return &p.choices }),
		Doc:  "Number of answers.",
	},
	{
		Name: "seed",
		Type: wire.Custom(wire.Integer(math.MinInt64, math.MaxInt64), setSeed),
		Doc:  "Random seed; without one, answers differ from request to request.",
	},
	{
		Name: "stop",
		Type: wire.Custom(stopSchema, setStop),
		Doc:  "Stop sequences: texts that end an answer, which does not contain them.",
	},
	{
		Name: "logit_bias",
		Type: wire.Custom(biasSchema, setLogitBias),
		Doc:  "Values to add to the logits of tokens, by token ID; -100 bans a token.",
	},
	{
		Name: "stream",
		Type: wire.BoolOf(func(p *params) *bool { return &p.stream }),
		Doc:  "Whether the answer is streamed as it is generated, as server-sent events.",
	},
	{
		Name: "stream_options",
		Type: wire.Custom(streamOptionsSchema, setStreamOptions),
		Doc:  "`include_usage` adds a final event with the usage; `include_obfuscation` has no effect.",
	},
	userField[params](),
	{
		Name: "dry_sequence_breakers",
		Type: wire.Of(wire.ListOf(wire.Schema{"type": "string", "maxLength": maxBreaker}, maxBreakers), readBreakers,
			func(p *params) *[]string { return &p.sampling.DRYSequenceBreakers }),
		Doc: "Texts at which DRY stops looking for repetitions.",
	},
	{
		Name: "ignore_eos",
		Type: wire.BoolOf(func(p *params) *bool { return &p.sampling.IgnoreEOS }),
		Doc:  "Whether to prevent the model from ending its answer, until a grammar allows nothing else.",
	},
	{
		Name: "grammar",
		Type: wire.Refuse[params]("GBNF grammars are not supported; 'guided_grammar' of /v1/chat/completions "+
			"takes a Lark grammar.", `""`),
	},
}, othersFields, samplerFields())

// samplerFields declares the engine's parameters, by all of their names.
func samplerFields() (table wire.Table[params]) {
	for i := range engine.Parameters {
		p := &engine.Parameters[i]
		table = append(table, wire.Field[params]{Name: p.Name, Type: samplerType(p), Doc: samplerDoc(p)})
		for _, alias := range p.Aliases {
			table = append(table, wire.Field[params]{
				Name: alias,
				Type: samplerType(p),
				Doc:  "Another name for `" + p.Name + "`.",
			})
		}
	}
	return table
}

// samplerNames returns the names of the fields of samplerFields.
func samplerNames() (names []string) {
	for i := range engine.Parameters {
		names = append(append(names, engine.Parameters[i].Name), engine.Parameters[i].Aliases...)
	}
	return names
}

func samplerType(p *engine.Parameter) wire.Type[params] {
	if p.Float != nil {
		variable := func(r *params) *float32 { return p.Float(&r.sampling) }
		return wire.NumberOf(p.Low, p.High, variable).Default(p.Default)
	}
	variable := func(r *params) *int32 { return p.Int(&r.sampling) }
	return wire.IntegerOf(int64(p.Low), int64(p.High), variable).Default(p.Default)
}

// samplerDoc is what is said of a parameter, with the value that turns its sampler off.
func samplerDoc(p *engine.Parameter) string {
	if math.IsNaN(p.Off) {
		return p.Doc
	}
	return fmt.Sprintf("%s; %v turns it off.", strings.TrimSuffix(p.Doc, "."), p.Off)
}

func setSeed(p *params, v wire.Value) *fault.Error {
	n, e := v.Integer(math.MinInt64, math.MaxInt64)
	p.sampling.SetSeed(n)
	return e
}

// The schemas of fields that have their own decoders.
var (
	stopSchema = wire.AnyOf(wire.String, wire.ListOf(wire.String, maxStops)).Examples(`"\n"`, `["a","b"]`)

	biasSchema = wire.Schema{
		"type":                 "object",
		"propertyNames":        wire.Schema{"pattern": "^[0-9]+$"},
		"additionalProperties": wire.Number(-100, 100),
		"maxProperties":        maxLogitBias,
	}.Examples(`{"97":1}`)

	streamOptionsSchema = wire.Open(map[string]wire.Schema{
		"include_usage":       wire.Bool,
		"include_obfuscation": wire.Bool,
	}).Examples(`{"include_usage":true}`)
)

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

func readBreakers(v wire.Value) ([]string, *fault.Error) {
	list, e := v.Array(maxBreakers)
	if e != nil {
		return nil, e
	}
	breakers, e := stringList(list)
	for i, s := range breakers {
		if len(s) > maxBreaker {
			return nil, list[i].Invalid("the sequence breaker is too long: %d bytes (maximum %d).", len(s), maxBreaker)
		}
	}
	return breakers, e
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
			return list[i].Invalid("the stop sequence is too long: %d bytes (maximum %d).", len(s), maxStopBytes)
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
		return v.Invalid("too many tokens: %d (maximum %d).", len(object), maxLogitBias)
	}

	for _, key := range slices.Sorted(maps.Keys(object)) {
		token, err := strconv.ParseInt(key, 10, 32)
		if err != nil || token < 0 {
			return v.Invalid("the key '%s' is not a token ID.", key)
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
	wire.Others(object, "include_usage", "include_obfuscation")
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
	if p.maxTokens == 0 && p.predict > 0 {
		p.maxTokens = p.predict
	}
	if least := int(p.sampling.MinTokens); p.maxTokens > 0 && least > p.maxTokens {
		return fault.New(fault.InvalidValue, "min_tokens",
			"Invalid 'min_tokens': %d is more than the maximum tokens of an answer (%d).", least, p.maxTokens)
	}
	return nil
}

// request returns the engine's request, without the prompt.
func (p *params) request() engine.Request {
	return engine.Request{
		Caller:     engine.Caller{Tier: p.tier},
		Choices:    p.choices,
		MaxTokens:  p.maxTokens,
		Sampling:   p.sampling,
		Stop:       p.stop,
		StopTokens: p.stopTokens,
		CacheSalt:  p.cacheSalt,
		LogProbs:   p.logprobs,
		Top:        p.top,
	}
}
