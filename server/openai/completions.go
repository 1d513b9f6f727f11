package openai

import (
	"bytes"
	"context"
	"math"
	"net/http"
	"slices"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// completionRequest is the body of POST /v1/completions.
type completionRequest struct {
	params
	prompts []input
	echo    bool             // the prompt comes before each answer
	suffix  string           // what comes after the answer: the middle is filled in
	bestOf  int              // answers made for each prompt, of which the most probable are sent
	none    bool             // no token is wanted, only the prompt's echo
	asked   [][]engine.Token // by prompt: its tokens
}

// input is a text, or tokens.
type input struct {
	text   string
	tokens []engine.Token // nil for a text
}

// maxInputs is the maximum number of prompts or inputs of a request, the same as OpenAI's.
const maxInputs = 2048

const defaultCompletionTokens = 16

var completionFields = wire.Lift(func(r *completionRequest) *params { return &r.params }, commonFields,
	wire.Table[completionRequest]{
		{
			Name:     "prompt",
			Required: true,
			Type: wire.Of(inputsSchema(wire.String), readPrompts,
				func(r *completionRequest) *[]input { return &r.prompts }),
			Doc: "The text to continue: a string, an array of token IDs, or an array of either. The text of a control token " +
				"is read as that token, unless there is a `suffix`.",
		},
		{
			Name: "logprobs",
			Type: wire.Custom(wire.Integer(0, 5), (*completionRequest).setLogprobs),
			Doc:  "Number of most probable tokens to list for each token, besides its own log-probability.",
		},
		{
			Name: "max_tokens",
			Type: wire.Custom(wire.Integer(0, math.MaxInt32), (*completionRequest).setMaxTokens),
			Doc:  "Maximum tokens in an answer; 0, with `echo`, returns only the prompt.",
		},
		{
			Name: "echo",
			Type: wire.BoolOf(func(r *completionRequest) *bool { return &r.echo }),
			Doc:  "Whether to return the prompt before its answers.",
		},
		{
			Name: "suffix",
			Type: wire.StringOf(func(r *completionRequest) *string { return &r.suffix }),
			Doc:  "Text that follows the answer, for models that support fill-in-the-middle.",
		},
		{
			Name: "best_of",
			Type: wire.IntegerOf(1, 20, func(r *completionRequest) *int { return &r.bestOf }),
			Doc:  "Number of answers to generate, of which the `n` most probable are returned.",
		},
	})

func (r *completionRequest) setLogprobs(v wire.Value) *fault.Error {
	n, e := v.Integer(0, 5)
	r.logprobs = true
	r.top = int(n)
	return e
}

func (r *completionRequest) setMaxTokens(v wire.Value) *fault.Error {
	n, e := v.Integer(0, math.MaxInt32)
	// The engine draws one at least, which nobody gets.
	r.maxTokens = int(max(n, 1))
	r.none = n == 0
	return e
}

// tokenSchema describes the number of a token.
var tokenSchema = wire.Integer(0, math.MaxInt32)

// inputsSchema describes what readInputs reads, of texts that a schema describes.
func inputsSchema(text wire.Schema) wire.Schema {
	tokens := wire.Schema{"type": "array", "items": tokenSchema}.NonEmpty()
	return wire.AnyOf(
		text,
		tokens,
		wire.ListOf(wire.AnyOf(text, tokens), maxInputs).NonEmpty(),
	).Examples(`"Hello"`, `["a","b"]`, `[1,2]`, `[[1],[2]]`)
}

func readPrompts(v wire.Value) ([]input, *fault.Error) { return readInputs(v, true) }

// readInputs reads a string, an array of strings, an array of tokens or an array
// of arrays of tokens.
func readInputs(v wire.Value, emptyText bool) ([]input, *fault.Error) {
	if v.Raw[0] == '"' {
		s, e := v.Text()
		if e == nil && s == "" && !emptyText {
			e = v.Invalid("the string is empty.")
		}
		return []input{{text: s}}, e
	}

	if v.Raw[0] != '[' {
		return nil, v.WrongType("a string or an array")
	}

	switch first := v.First(); {
	case first == 0:
		return nil, v.Empty()
	case first != '"' && first != '[':
		tokens, e := v.Numbers(wire.MaxNumbers)
		return []input{{tokens: tokens}}, e
	}

	list, e := v.Array(maxInputs)
	if e != nil {
		return nil, e
	}
	inputs := make([]input, len(list))
	for i, item := range list {
		if inputs[i], e = readInputItem(item, emptyText); e != nil {
			return nil, e
		}
	}

	return inputs, nil
}

// readInputItem reads one of several inputs: a string, or an array of tokens.
func readInputItem(v wire.Value, emptyText bool) (in input, e *fault.Error) {
	if v.Raw[0] != '[' {
		in.text, e = v.Text()
		if e == nil && in.text == "" && !emptyText {
			e = v.Invalid("the string is empty.")
		}
		return in, e
	}

	in.tokens, e = v.Numbers(wire.MaxNumbers)
	if e == nil && len(in.tokens) == 0 {
		e = v.Empty()
	}
	return in, e
}

// tokenize returns the tokens of an input. It may stop after limit tokens.
func (in input) tokenize(e prompt.Reader, how engine.Reading, limit int) ([]engine.Token, error) {
	if in.tokens != nil {
		return in.tokens, nil
	}
	return e.Tokenize(in.text, how, limit)
}

// completions answers POST /v1/completions.
func (api *API) completions(w http.ResponseWriter, r *http.Request) *fault.Error {
	req := completionRequest{params: defaultParams()}
	if e := decode(api, w, r, &req, completionFields, req.check); e != nil {
		return e
	}

	model, e := api.service.Worker(r.Context(), req.model, req.tier)
	if e != nil {
		return e
	}

	reply := service.NewReply(model)
	defer reply.Close()
	reader := service.NewReader(r.Context(), model)
	err := api.service.AskEach(r.Context(), model, len(req.prompts), func(i int) error {
		tokens, err := req.prompt(reader, req.prompts[i])
		req.asked = append(req.asked, tokens)
		return err
	})
	if err == nil {
		err = req.generate(r.Context(), reply)
	}
	if err != nil {
		return service.Fault(err, "prompt")
	}

	a := newAnswer("cmpl-", model, &req.params)
	if !req.stream {
		return completeCompletions(w, r, a, &req, reply)
	}

	return api.opts.Stream(w, r, reply, newCompletionEncoder(a, &req))
}

// check validates fields that depend on each other.
func (r *completionRequest) check() *fault.Error {
	switch {
	case r.echo && r.suffix != "":
		return fault.New(fault.InvalidValue, "echo", "The 'echo' parameter cannot be used with 'suffix'.")
	case r.bestOf > 0 && r.bestOf < r.choices:
		return fault.New(fault.InvalidValue, "best_of",
			"Invalid 'best_of': must be at least 'n' (%d).", r.choices)
	case len(r.prompts)*max(r.choices, r.bestOf) > maxInputs:
		return fault.New(fault.InvalidValue, "prompt",
			"Invalid 'prompt': %d prompts with %d answers each are %d answers (maximum %d).",
			len(r.prompts), max(r.choices, r.bestOf), len(r.prompts)*max(r.choices, r.bestOf), maxInputs)
	case r.bestOf > r.choices && r.stream:
		return fault.New(fault.InvalidValue, "best_of",
			"The 'best_of' parameter cannot be used with 'stream': the best answers are known only at the end.")
	}
	if r.maxTokens == 0 && r.predict == 0 {
		r.maxTokens = defaultCompletionTokens
	}
	return r.params.check()
}

// prompt returns the tokens of a prompt. With a suffix, it is the prompt for filling in the middle.
func (r *completionRequest) prompt(e prompt.Reader, in input) ([]engine.Token, error) {
	limit := e.Limits().Context - 1
	if r.suffix == "" {
		return in.tokenize(e, engine.Reading{Control: true, Ends: true}, limit)
	}

	before := in.tokens
	if before == nil {
		var err error
		if before, err = e.Tokenize(in.text, engine.Reading{}, limit); err != nil {
			return nil, err
		}
	}

	after, err := e.Tokenize(r.suffix, engine.Reading{}, limit)
	if err != nil {
		return nil, err
	}
	return prompt.FillMiddle(e.Model(), before, after, "suffix")
}

// echoed returns the text before the answers to a prompt.
func (r *completionRequest) echoed(index int, m *pool.Lease) string {
	if !r.echo {
		return ""
	}
	in := r.prompts[index]
	if in.tokens == nil {
		return in.text
	}
	return prompt.Text(m.Engine.Model(), in.tokens)
}

// echoedTokens returns the tokens before the answers to a prompt. Scored are all but the first, with
// their log-probabilities. The result contains neither a BOS token nor the space that SentencePiece
// adds, which are not part of the client's text.
func (r *completionRequest) echoedTokens(m *pool.Lease, index int, scored []engine.TokenInfo) []engine.TokenInfo {
	if !r.echo || !r.logprobs {
		return nil
	}
	in := r.prompts[index]
	first := r.asked[index][0]
	tokens := slices.Clone(scored)
	if in.tokens != nil || first != m.Engine.Model().Marks.BOS {
		tokens = slices.Insert(tokens, 0, engine.TokenInfo{
			TokenLogProb: engine.TokenLogProb{Token: first},
			Bytes:        prompt.Piece(m.Engine.Model(), first),
		})
	}
	if len(tokens) == 0 {
		return nil
	}
	tokens[0].LogProb = noLogProb
	if in.tokens == nil && !strings.HasPrefix(in.text, " ") {
		tokens[0].Bytes = bytes.TrimPrefix(tokens[0].Bytes, []byte(" "))
	}
	return tokens
}

// noLogProb marks the first token of a prompt, which has no log-probability.
const noLogProb = 1

// wanted returns the text and tokens of an event. There are none if max_tokens is 0.
func (r *completionRequest) wanted(e *engine.Event) (string, []engine.TokenInfo, engine.Finish) {
	if !r.none {
		return e.Text + r.stopText(e), e.Tokens, e.Finish
	}
	if e.Finish != "" {
		return "", nil, engine.FinishLength
	}
	return "", nil, ""
}

// usage returns the usage of a prompt's answer.
func (r *completionRequest) usage(u engine.Usage) engine.Usage {
	if r.none {
		u.Completion = 0
	}
	return u
}

// generate starts the answers to all prompts, after checking all of them.
func (r *completionRequest) generate(ctx context.Context, reply *service.Reply) error {
	requests := make([]engine.Request, len(r.prompts))
	for i, tokens := range r.asked {
		requests[i] = r.request()
		if e := service.CheckBias(reply.Model, &requests[i]); e != nil {
			return e
		}
		requests[i].Prompt = tokens
		requests[i].Score = r.echo && r.logprobs
		if r.bestOf > r.choices {
			requests[i].Choices = r.bestOf
			requests[i].LogProbs = true
		}
	}

	return reply.GenerateAll(ctx, requests)
}
