package engine

import (
	"encoding/json"
	"math"
)

// Sampling says how a choice's tokens are drawn, in llama.cpp's terms. The zero
// value is not useful: start from DefaultSampling. The numbers are declared in Parameters.
type Sampling struct {
	Seed             uint32  `json:"seed"`
	Temperature      float32 `json:"temperature"`
	DynatempRange    float32 `json:"dynatemp_range"`
	DynatempExponent float32 `json:"dynatemp_exponent"`
	TopK             int32   `json:"top_k"`
	TopP             float32 `json:"top_p"`
	MinP             float32 `json:"min_p"`
	TypicalP         float32 `json:"typical_p"`
	TopNSigma        float32 `json:"top_n_sigma"`
	XTCProbability   float32 `json:"xtc_probability"`
	XTCThreshold     float32 `json:"xtc_threshold"`

	RepeatLastN      int32   `json:"repeat_last_n"`
	RepeatPenalty    float32 `json:"repeat_penalty"`
	FrequencyPenalty float32 `json:"frequency_penalty"`
	PresencePenalty  float32 `json:"presence_penalty"`

	DRYMultiplier       float32  `json:"dry_multiplier"`
	DRYBase             float32  `json:"dry_base"`
	DRYAllowedLength    int32    `json:"dry_allowed_length"`
	DRYPenaltyLastN     int32    `json:"dry_penalty_last_n"`
	DRYSequenceBreakers []string `json:"dry_sequence_breakers,omitempty"`

	Mirostat    int32   `json:"mirostat"`
	MirostatTau float32 `json:"mirostat_tau"`
	MirostatEta float32 `json:"mirostat_eta"`

	// MinTokens are drawn before one that ends the answer can be: one of the model's, or of Ends. A grammar that
	// has nothing else ends it earlier.
	MinTokens int32   `json:"min_tokens"`
	Ends      []Token `json:"ends,omitempty"`

	IgnoreEOS bool        `json:"ignore_eos"`
	LogitBias []LogitBias `json:"logit_bias,omitempty"`

	Grammar Grammar `json:"-"`

	// Drawn are tokens that the choice has drawn already: the sampler goes on after
	// them as if it had drawn them itself.
	Drawn []Token `json:"-"`
}

// SetSeed sets the seed to one of 64 bits. llama.cpp's have 32, and the largest value means a random one.
func (s *Sampling) SetSeed(n int64) {
	s.Seed = uint32(n) ^ uint32(uint64(n)>>32)
	if s.Seed == math.MaxUint32 {
		s.Seed = 0
	}
}

// Parameter declares a number of Sampling. Every API takes it by this declaration; what else it needs is
// its construction in engine/llama/sampler.cpp, which reads it by its name.
type Parameter struct {
	Name    string   // llama.cpp's and the APIs', and the key in JSON
	Aliases []string // other names of it that OpenAI-compatible servers read
	Ollama  string   // its name among the options of Ollama's API; empty if it is none
	Doc     string   // one sentence for people

	// One of these gives its variable.
	Float func(*Sampling) *float32
	Int   func(*Sampling) *int32

	// The bounds that clients are held to.
	Low  float64
	High float64

	Default float64
	Off     float64 // the value that turns its sampler off; NaN if another parameter does
}

// MaxWindow is the maximum number of tokens that penalties consider.
const MaxWindow = 1 << 16

// noOff is for a parameter of a sampler that another parameter turns off.
var noOff = math.NaN()

// Parameters are all numbers of Sampling but the seed.
var Parameters = []Parameter{
	{
		Name:    "temperature",
		Ollama:  "temperature",
		Doc:     "Sampling temperature; 0 always takes the most probable token.",
		Float:   func(s *Sampling) *float32 { return &s.Temperature },
		Low:     0,
		High:    2,
		Default: 1,
		Off:     noOff,
	},
	{
		Name:    "top_p",
		Ollama:  "top_p",
		Doc:     "Samples only from the most probable tokens whose combined probability reaches this.",
		Float:   func(s *Sampling) *float32 { return &s.TopP },
		Low:     0,
		High:    1,
		Default: 1,
		Off:     1,
	},
	{
		Name:    "top_k",
		Ollama:  "top_k",
		Doc:     "Samples only from this many of the most probable tokens.",
		Int:     func(s *Sampling) *int32 { return &s.TopK },
		Low:     -1,
		High:    math.MaxInt32,
		Default: 0,
		Off:     0,
	},
	{
		Name:    "min_p",
		Ollama:  "min_p",
		Doc:     "Samples only from tokens with at least this fraction of the top token's probability.",
		Float:   func(s *Sampling) *float32 { return &s.MinP },
		Low:     0,
		High:    1,
		Default: 0.05,
		Off:     0,
	},
	{
		Name:   "typical_p",
		Ollama: "typical_p",
		Doc: "Samples only from the tokens whose information content is closest to the expected value, up to this " +
			"combined probability (locally typical sampling).",
		Float:   func(s *Sampling) *float32 { return &s.TypicalP },
		Low:     0,
		High:    1,
		Default: 1,
		Off:     1,
	},
	{
		Name:    "top_n_sigma",
		Doc:     "Samples only from tokens whose logit is within this many standard deviations of the top one.",
		Float:   func(s *Sampling) *float32 { return &s.TopNSigma },
		Low:     -1,
		High:    100,
		Default: -1,
		Off:     -1,
	},
	{
		Name:    "xtc_probability",
		Doc:     "Probability that the most probable tokens are excluded, except the last one above `xtc_threshold`.",
		Float:   func(s *Sampling) *float32 { return &s.XTCProbability },
		Low:     0,
		High:    1,
		Default: 0,
		Off:     0,
	},
	{
		Name:    "xtc_threshold",
		Doc:     "Minimum probability of the tokens that `xtc_probability` applies to.",
		Float:   func(s *Sampling) *float32 { return &s.XTCThreshold },
		Low:     0,
		High:    1,
		Default: 0.1,
		Off:     noOff,
	},
	{
		Name:    "dynatemp_range",
		Doc:     "How much the temperature varies, up and down, with the entropy of the distribution.",
		Float:   func(s *Sampling) *float32 { return &s.DynatempRange },
		Low:     0,
		High:    2,
		Default: 0,
		Off:     0,
	},
	{
		Name:    "dynatemp_exponent",
		Doc:     "Exponent that maps the entropy to a temperature within `dynatemp_range`.",
		Float:   func(s *Sampling) *float32 { return &s.DynatempExponent },
		Low:     0,
		High:    10,
		Default: 1,
		Off:     noOff,
	},
	{
		Name:    "frequency_penalty",
		Ollama:  "frequency_penalty",
		Doc:     "Subtracted from a token's logit for each time that it has already appeared.",
		Float:   func(s *Sampling) *float32 { return &s.FrequencyPenalty },
		Low:     -2,
		High:    2,
		Default: 0,
		Off:     0,
	},
	{
		Name:    "presence_penalty",
		Ollama:  "presence_penalty",
		Doc:     "Subtracted from the logit of each token that has already appeared.",
		Float:   func(s *Sampling) *float32 { return &s.PresencePenalty },
		Low:     -2,
		High:    2,
		Default: 0,
		Off:     0,
	},
	{
		Name:    "repeat_penalty",
		Aliases: []string{"repetition_penalty"},
		Ollama:  "repeat_penalty",
		Doc:     "Divides the logits of tokens that have already appeared.",
		Float:   func(s *Sampling) *float32 { return &s.RepeatPenalty },
		Low:     0.01,
		High:    10,
		Default: 1,
		Off:     1,
	},
	{
		Name:    "repeat_last_n",
		Ollama:  "repeat_last_n",
		Doc:     "Number of recent tokens that the penalties consider.",
		Int:     func(s *Sampling) *int32 { return &s.RepeatLastN },
		Low:     0,
		High:    MaxWindow,
		Default: 64,
		Off:     0,
	},
	{
		Name:    "dry_multiplier",
		Doc:     "Strength of the penalty on tokens that would repeat a sequence (DRY).",
		Float:   func(s *Sampling) *float32 { return &s.DRYMultiplier },
		Low:     0,
		High:    10,
		Default: 0,
		Off:     0,
	},
	{
		Name:    "dry_base",
		Doc:     "Growth of the DRY penalty with the length of the sequence.",
		Float:   func(s *Sampling) *float32 { return &s.DRYBase },
		Low:     0,
		High:    10,
		Default: 1.75,
		Off:     noOff,
	},
	{
		Name:    "dry_allowed_length",
		Doc:     "Longest sequence that may be repeated without a DRY penalty, in tokens.",
		Int:     func(s *Sampling) *int32 { return &s.DRYAllowedLength },
		Low:     0,
		High:    MaxWindow,
		Default: 2,
		Off:     noOff,
	},
	{
		Name:    "dry_penalty_last_n",
		Doc:     "Number of recent tokens that DRY considers.",
		Int:     func(s *Sampling) *int32 { return &s.DRYPenaltyLastN },
		Low:     0,
		High:    MaxWindow,
		Default: 64,
		Off:     0,
	},
	{
		Name:    "min_tokens",
		Doc:     "Minimum tokens in an answer: before that, neither the model nor `stop` ends it.",
		Int:     func(s *Sampling) *int32 { return &s.MinTokens },
		Low:     0,
		High:    math.MaxInt32,
		Default: 0,
		Off:     0,
	},
	{
		Name:    "mirostat",
		Ollama:  "mirostat",
		Doc:     "Version of Mirostat, which replaces all samplers except temperature.",
		Int:     func(s *Sampling) *int32 { return &s.Mirostat },
		Low:     0,
		High:    2,
		Default: 0,
		Off:     0,
	},
	{
		Name:    "mirostat_tau",
		Ollama:  "mirostat_tau",
		Doc:     "Target surprise of Mirostat.",
		Float:   func(s *Sampling) *float32 { return &s.MirostatTau },
		Low:     0,
		High:    100,
		Default: 5,
		Off:     noOff,
	},
	{
		Name:    "mirostat_eta",
		Ollama:  "mirostat_eta",
		Doc:     "Learning rate of Mirostat.",
		Float:   func(s *Sampling) *float32 { return &s.MirostatEta },
		Low:     0,
		High:    1,
		Default: 0.1,
		Off:     noOff,
	},
}

// Set sets the parameter's variable, which must be able to hold the value.
func (p *Parameter) Set(s *Sampling, value float64) {
	if p.Float != nil {
		*p.Float(s) = float32(value)
		return
	}
	*p.Int(s) = int32(value)
}

// Get returns the value of the parameter's variable.
func (p *Parameter) Get(s *Sampling) float64 {
	if p.Float != nil {
		return float64(*p.Float(s))
	}
	return float64(*p.Int(s))
}

// DefaultSampling is OpenAI's defaults, the model's whole distribution at temperature 1, less the
// tokens below a twentieth of the best one's probability: small quantized models need that much help.
// Set MinP to 0 for none.
func DefaultSampling() Sampling {
	var s Sampling
	for i := range Parameters {
		Parameters[i].Set(&s, Parameters[i].Default)
	}
	return s
}

// LogitBias is added to a token's logit; -100 or less bans it. As JSON a pair.
type LogitBias struct {
	Token Token
	Bias  float32
}

// MarshalJSON writes the pair [token, bias].
func (b LogitBias) MarshalJSON() ([]byte, error) { return json.Marshal([]any{b.Token, b.Bias}) }

// UnmarshalJSON reads what MarshalJSON writes.
func (b *LogitBias) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&b.Token, &b.Bias})
}
