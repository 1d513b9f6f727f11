package openai

import (
	"math"

	"serve/engine"
	"serve/fault"
	"serve/server/wire"
)

// othersFields declares the fields of other servers that clients are known to send, with chats and with
// completions.
var othersFields = append(wire.Table[params]{
	{
		Name: "num_predict",
		Type: wire.Custom(predictSchema, setPredict),
		Doc:  "Ollama's name for `max_tokens`, which takes precedence over it; -1 and -2 mean no limit.",
	},
	{
		Name: "n_predict",
		Type: wire.Custom(predictSchema, setPredict),
		Doc:  "llama.cpp's name for `max_tokens`, which takes precedence over it; -1 and -2 mean no limit.",
	},
	{
		Name: "stop_token_ids",
		Type: wire.Of(wire.ListOf(tokenSchema, maxStops), readStopTokens,
			func(p *params) *[]engine.Token { return &p.stopTokens }),
		Doc: "IDs of tokens that end an answer, which does not contain them.",
	},
	{
		Name: "include_stop_str_in_output",
		Type: wire.BoolOf(func(p *params) *bool { return &p.includeStop }),
		Doc:  "Whether an answer includes the stop sequence that ended it.",
	},
	{
		Name: "skip_special_tokens",
		Type: wire.Refuse[params]("Answers never contain control tokens.", "true"),
	},
	{
		Name: "cache_salt",
		Type: wire.Custom(saltSchema, setCacheSalt),
		Doc:  "The prompt's KV cells are shared only with prompts that have the same salt.",
	},
	{
		Name: "use_beam_search",
		Type: wire.Refuse[params]("Beam search is not supported.", "false"),
	},
	{
		Name: "length_penalty",
		Type: wire.Refuse[params]("Beam search is not supported.", "1", "1.0", "0", "0.0"),
	},
	{
		Name: "early_stopping",
		Type: wire.Refuse[params]("Beam search is not supported.", "false"),
	},
	{
		Name: "bad_words",
		Type: wire.Refuse[params]("Words cannot be banned; 'logit_bias' bans tokens.", "[]"),
	},
	{
		Name: "allowed_token_ids",
		Type: wire.Refuse[params]("Answers cannot be limited to a set of tokens.", "[]"),
	},
	{
		Name: "logits_processors",
		Type: wire.Refuse[params]("Client-supplied code is not run.", "[]"),
	},
	{
		Name: "truncate_prompt_tokens",
		Type: wire.Refuse[params]("Prompts are never truncated: one that is too long is an error."),
	},
	{
		Name: "prompt_logprobs",
		Type: wire.Refuse[params]("Use 'echo' and 'logprobs' of /v1/completions for the log-probabilities of a prompt."),
	},
	{
		Name: "return_token_ids",
		Type: wire.Refuse[params]("Answers are text; 'POST /tokenize' returns its tokens.", "false"),
	},
	{
		Name: "return_tokens_as_token_ids",
		Type: wire.Refuse[params]("Answers are text; 'POST /tokenize' returns its tokens.", "false"),
	},
	{
		Name: "n_probs",
		Type: wire.Refuse[params]("Use 'logprobs' for log-probabilities.", "0"),
	},
	{
		Name: "samplers",
		Type: wire.Refuse[params]("The order of the samplers is fixed."),
	},
	{
		Name: "json_schema",
		Type: wire.Refuse[params]("Use 'response_format' of /v1/chat/completions for a schema."),
	},
}, ignoredByOthers()...)

// ignoredByOthers declares the fields that cannot change an answer here.
func ignoredByOthers() (table wire.Table[params]) {
	for _, of := range []struct {
		schema wire.Schema
		doc    string
		names  []string
	}{
		{wire.Any, "Controls how Ollama loads models; here, server flags do.", []string{
			"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "use_mmap", "use_mlock", "numa",
			"low_vram", "f16_kv", "vocab_only", "keep_alive",
		}},
		{wire.Any, "Controls llama.cpp's prompt cache; prompts with a common prefix always share the cache here.", []string{
			"cache_prompt", "id_slot", "slot_id", "n_keep", "n_cache_reuse",
		}},
		{wire.Any, "Adds statistics to llama.cpp's answers; here, `GET /metrics` has statistics.", []string{
			"timings_per_token", "return_progress", "return_tokens", "verbose",
		}},
		{wire.Any, "Controls how vLLM handles a request.", []string{
			"request_id", "priority", "detokenize", "spaces_between_special_tokens", "add_special_tokens",
			"kv_transfer_params", "mm_processor_kwargs", "bypass_parameters",
		}},
		{wire.Any, "Controls how OpenRouter chooses a provider and bills.", []string{
			"provider", "models", "route", "transforms", "usage", "session_id",
		}},
	} {
		for _, name := range of.names {
			table = append(table, wire.Field[params]{Name: name, Type: wire.Ignore[params](of.schema), Doc: of.doc})
		}
	}

	return table
}

// predictSchema describes the limits of other servers on an answer.
var predictSchema = wire.AnyOf(wire.Integer(1, math.MaxInt32), wire.Integer(-2, -1)).Examples("1", "-1")

func setPredict(p *params, v wire.Value) *fault.Error {
	n, e := v.Integer(-2, math.MaxInt32)
	if e == nil && n == 0 {
		return v.Invalid("it must be at least 1, or -1 or -2 for no limit.")
	}
	p.predict = int(n)
	return e
}

// maxSaltBytes is the longest salt.
const maxSaltBytes = 1024

var saltSchema = wire.Schema{"type": "string", "minLength": 1, "maxLength": maxSaltBytes}.Examples(`"a"`)

func setCacheSalt(p *params, v wire.Value) *fault.Error {
	salt, e := v.Text()
	switch {
	case e != nil:
		return e
	case salt == "":
		return v.Invalid("the salt is empty.")
	case len(salt) > maxSaltBytes:
		return v.Invalid("the salt is too long: %d bytes (maximum %d).", len(salt), maxSaltBytes)
	}
	p.cacheSalt = salt
	return nil
}

func readStopTokens(v wire.Value) ([]engine.Token, *fault.Error) {
	return v.Numbers(maxStops)
}

// stopText returns the text of a stop string that belongs to the answer, which the event ends.
func (p *params) stopText(e *engine.Event) string {
	if p.includeStop && e.Finish != "" {
		return e.Stop
	}
	return ""
}

// answered returns the text of a complete answer.
func (p *params) answered(c *collected) string {
	if p.includeStop {
		return c.Text() + c.stop
	}
	return c.Text()
}
