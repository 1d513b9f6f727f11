package ollama

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/wire"
)

// request contains the fields of all endpoints; each has a table of those that it reads.
type request struct {
	model     string
	stream    bool
	keepAlive *time.Duration // negative for ever; nil if nothing was said
	truncate  *bool
	notes     wire.Notes

	// Of answers.
	sampling  engine.Sampling
	maxTokens int // 0 for no limit
	context   int // num_ctx, 0 for the model's
	stop      []string
	format    prompt.Format
	formatted bool // format is given
	think     *bool
	effort    string // in place of a yes
	logprobs  bool
	top       int
	debug     bool // only render
	images    []prompt.Image
	system    string

	// Of chats.
	messages []prompt.Message
	tools    []prompt.Tool

	// Of generate.
	prompt string
	suffix string
	raw    bool
	before []engine.Token // context: what the prompt comes after

	// Of embeddings.
	inputs     []string
	dimensions int

	// Of models.
	source      string
	destination string
}

// Defaults of Ollama's options where they are not the engine's.
const (
	defaultTemperature = 0.8
	defaultTopK        = 40
	defaultTopP        = 0.9
)

// newRequest returns a request with Ollama's defaults. The seed is random.
func newRequest() *request {
	r := &request{stream: true, sampling: engine.DefaultSampling(), notes: wire.Notes{Lenient: true}}
	r.sampling.Temperature = defaultTemperature
	r.sampling.TopK = defaultTopK
	r.sampling.TopP = defaultTopP
	r.sampling.MinP = 0
	r.sampling.Seed = rand.Uint32N(math.MaxUint32)
	return r
}

// Limits on requests.
const (
	maxName     = 1024 // bytes of a model's name
	maxStops    = 64
	maxStop     = 1024 // bytes of a stop string
	maxInputs   = 2048
	maxMessages = 16384
	maxImages   = 128 // of a message
	maxCalls    = 1024
	maxTop      = 20
)

// modelFields name the model. The older of the two names counts only if the other is not given: it comes
// later in the order in which fields are read.
var modelFields = table{
	{
		Name: "model",
		Type: wire.Custom(wire.String, setModel),
		Doc:  "Name of the model.",
	},
	{
		Name: "name",
		Type: wire.Custom(wire.String, func(r *request, v wire.Value) *fault.Error {
			if r.model != "" {
				return nil
			}
			return setModel(r, v)
		}),
		Doc: "The older name for `model`.",
	},
}

func setModel(r *request, v wire.Value) (e *fault.Error) {
	r.model, e = v.Text()
	if e == nil && len(r.model) > maxName {
		return v.Invalid("the name is too long: %d bytes (maximum %d).", len(r.model), maxName)
	}
	return e
}

// streamFields are of the endpoints that stream, which is the default.
var streamFields = table{{
	Name: "stream",
	Type: wire.BoolOf(func(r *request) *bool { return &r.stream }).Default(true),
	Doc:  "Whether the answer is streamed as it is generated, one object per line.",
}}

// loadFields are of the endpoints that load a model.
var loadFields = table{
	{
		Name: "keep_alive",
		Type: wire.Custom(keepAliveSchema, setKeepAlive),
		Doc: "How long the model stays in memory unused; negative for forever, 0 to unload it at once. " +
			"Only for programs on the server's machine.",
	},
	{
		Name: "options",
		Type: wire.Custom(optionsSchema(), setOptions),
		Doc:  "See below.",
	},
	{
		Name: "truncate",
		Type: wire.Custom(wire.Bool, func(r *request, v wire.Value) *fault.Error {
			asked, e := v.Bool()
			r.truncate = &asked
			return e
		}).Default(false),
		Doc: "Whether to drop the oldest messages of a chat, or the end of an embedding input, if it is too long.",
	},
}

var keepAliveSchema = wire.AnyOf(
	wire.Schema{"type": "number"},
	wire.Schema{"type": "string", "pattern": `^([-+]?([0-9.]+(ns|us|µs|ms|s|m|h))+|0)$`},
)

// answerFields are of the endpoints that write text.
var answerFields = table{
	{
		Name: "format",
		Type: wire.Custom(wire.AnyOf(wire.Enum("json", ""), wire.Object.Examples(`{"type":"array"}`)), setFormat),
		Doc:  "`json`, or a JSON Schema; enforced while the answer is generated.",
	},
	{
		Name: "think",
		Type: wire.Custom(wire.AnyOf(wire.Bool, wire.Enum("low", "medium", "high", "max")), setThink),
		Doc:  "Whether the model reasons first, if it can; a word sets the effort for templates with an effort setting.",
	},
	{
		Name: "logprobs",
		Type: wire.BoolOf(func(r *request) *bool { return &r.logprobs }),
		Doc:  "Whether to return the log-probabilities of tokens.",
	},
	{
		Name: "top_logprobs",
		Type: wire.Custom(wire.Integer(0, maxTop), setTop),
		Doc:  "Number of most probable tokens to list for each token.",
	},
	{
		Name: "_debug_render_only",
		Type: wire.BoolOf(func(r *request) *bool { return &r.debug }),
		Doc:  "Whether to return only the formatted prompt, instead of an answer.",
	},
	{
		Name: "shift",
		Type: named("false"),
		Doc:  "Reported in `X-Ignored-Fields`: an answer ends when the context is full.",
	},
}

func setTop(r *request, v wire.Value) *fault.Error {
	n, e := v.Integer(math.MinInt32, math.MaxInt32)
	if e == nil && (n < 0 || n > maxTop) {
		return fault.New(fault.InvalidValue, v.Name, "top_logprobs must be between 0 and %d", maxTop)
	}
	r.top = int(n)
	return e
}

// setKeepAlive reads a number of seconds, or a duration as Go writes it.
func setKeepAlive(r *request, v wire.Value) *fault.Error {
	var d time.Duration
	if v.Raw[0] == '"' {
		s, e := v.Text()
		if e != nil {
			return e
		}
		parsed, err := time.ParseDuration(s)
		if err != nil {
			return v.Invalid("%s is not a duration such as \"5m\" or \"-1s\".", v.Raw)
		}
		d = parsed
	} else {
		seconds, err := strconv.ParseFloat(string(v.Raw), 64)
		if err != nil {
			return v.WrongType("a number of seconds or a duration such as \"5m\"")
		}
		// Within what a Duration can hold, which is 292 years.
		d = time.Duration(max(min(seconds, 9e9), -1) * float64(time.Second))
	}

	if d < 0 {
		d = pool.Forever
	}
	r.keepAlive = &d
	return nil
}

// setFormat reads "json" or a JSON Schema.
func setFormat(r *request, v wire.Value) (e *fault.Error) {
	o := prompt.FormatOptions{
		Field:       v.Name,
		SchemaField: v.Name,
		Budget:      v.Budget(),
	}
	if v.Raw[0] == '{' {
		r.format, e = prompt.SchemaFormat(v.Raw, o)
		r.formatted = true
		return e
	}

	switch string(v.Raw) {
	case `""`:
		return nil
	case `"json"`:
		r.format, e = prompt.ObjectFormat(o)
		r.formatted = true
		return e
	}
	return v.Invalid(`%s is neither "json" nor a JSON Schema.`, v.Raw)
}

// setThink reads a boolean or an effort.
func setThink(r *request, v wire.Value) *fault.Error {
	var yes bool
	switch string(v.Raw) {
	case "true", `"low"`, `"medium"`, `"high"`, `"max"`:
		yes = true
	case "false":
	default:
		return fault.New(fault.InvalidValue, v.Name,
			`invalid think value: %s (must be "max", "high", "medium", "low", true, or false)`, v.Raw)
	}
	r.think = &yes
	if v.Raw[0] == '"' {
		r.effort = string(v.Raw[1 : len(v.Raw)-1])
	}
	return nil
}

// readImages reads images, which are bare base64 here.
func readImages(v wire.Value) ([]prompt.Image, *fault.Error) {
	list, e := v.Array(maxImages)
	if e != nil {
		return nil, e
	}
	images := make([]prompt.Image, len(list))
	for i, item := range list {
		data, e := item.Text()
		if e != nil {
			return nil, e
		}
		// What it is an image of says its content.
		images[i] = prompt.Image{Field: item.Name, URL: "data:image/*;base64," + data, Mark: prompt.NewMark()}
	}
	return images, nil
}

// marks are the placeholders of images, which come before the text.
func marks(images []prompt.Image) string {
	var s string
	for _, image := range images {
		s += image.Mark
	}
	return s
}

// engineRequest returns the engine's request, without the prompt.
func (r *request) engineRequest(l engine.Limits) engine.Request {
	er := engine.Request{
		Choices:   1,
		MaxTokens: r.maxTokens,
		Sampling:  r.sampling,
		Stop:      r.stop,
		LogProbs:  r.logprobs,
		Top:       r.top,
	}
	if er.Sampling.RepeatLastN < 0 {
		er.Sampling.RepeatLastN = int32(min(l.Context, engine.MaxWindow))
	}
	return er
}

// conversation returns the conversation of a chat, or of a prompt.
func (r *request) conversation() *prompt.Conversation {
	c := &prompt.Conversation{Messages: r.messages, Format: r.format, Effort: r.effort}
	if r.think != nil && !*r.think {
		c.Effort = prompt.NoEffort
	}
	if len(r.tools) > 0 {
		c.Tools = prompt.Tools{List: r.tools, Choice: prompt.ChoiceAuto, Parallel: true}
	}
	return c
}

// compact returns JSON without blanks between its parts.
func compact(raw json.RawMessage) string {
	b, err := json.Marshal(raw)
	if err != nil {
		return string(raw) // not JSON, which it was when it was read
	}
	return string(b)
}
