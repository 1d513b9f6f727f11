package openai

import (
	"context"
	"math"
	"net/http"
	"strings"
	"unicode/utf8"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// tokenizeRequest is the body of POST /tokenize and /detokenize, which are compatible with vLLM and
// llama.cpp.
type tokenizeRequest struct {
	model   string
	prompt  *string // the text by vLLM's name
	content *string // the text by llama.cpp's name
	special *bool   // whether the tokens that a prompt begins and ends with are added
	strings bool    // the tokens' texts come as vLLM has them, in a list of their own
	pieces  bool    // they come as llama.cpp has them, with each token
	tokens  []engine.Token
}

// text returns the text, and whether special tokens are added to it. By default vLLM adds them, and llama.cpp
// does not.
func (r *tokenizeRequest) text() (text string, special bool) {
	switch {
	case r.prompt != nil:
		text = *r.prompt
		special = true
	case r.content != nil:
		text = *r.content
	}
	if r.special != nil {
		special = *r.special
	}
	return text, special
}

func readOptionalText(v wire.Value) (*string, *fault.Error) {
	text, e := v.Text()
	return &text, e
}

func readOptionalBool(v wire.Value) (*bool, *fault.Error) {
	b, e := v.Bool()
	return &b, e
}

var tokenizeFields = wire.Table[tokenizeRequest]{
	onlyModelField(func(r *tokenizeRequest) *string { return &r.model }),
	{
		Name: "prompt",
		Type: wire.Of(wire.String, readOptionalText, func(r *tokenizeRequest) **string { return &r.prompt }),
		Doc:  "The text (vLLM's name): at most 1 MiB, or as much as the context could hold.",
	},
	{
		Name: "content",
		Type: wire.Of(wire.String, readOptionalText, func(r *tokenizeRequest) **string { return &r.content }),
		Doc:  "The text (llama.cpp's name).",
	},
	{
		Name: "add_special_tokens",
		Type: wire.Of(wire.Bool, readOptionalBool, func(r *tokenizeRequest) **bool { return &r.special }),
		Doc: "Whether to add the special tokens at the beginning and end of a prompt (vLLM's name); by default, true " +
			"with `prompt` and false with `content`.",
	},
	{
		Name: "add_special",
		Type: wire.Of(wire.Bool, readOptionalBool, func(r *tokenizeRequest) **bool { return &r.special }),
		Doc:  "llama.cpp's name for `add_special_tokens`.",
	},
	{
		Name: "return_token_strs",
		Type: wire.BoolOf(func(r *tokenizeRequest) *bool { return &r.strings }),
		Doc:  "Whether to return the tokens' texts as well (vLLM's name).",
	},
	{
		Name: "with_pieces",
		Type: wire.BoolOf(func(r *tokenizeRequest) *bool { return &r.pieces }),
		Doc:  "Whether each token is an object with `id` and `piece`, as in llama.cpp.",
	},
}

var detokenizeFields = wire.Table[tokenizeRequest]{
	onlyModelField(func(r *tokenizeRequest) *string { return &r.model }),
	{
		Name:     "tokens",
		Required: true,
		Type: wire.Of(tokensSchema, readTokenList,
			func(r *tokenizeRequest) *[]engine.Token { return &r.tokens }),
		Doc: "The tokens.",
	},
}

// onlyModelField declares the name of the model where clients of vLLM, which serves one, leave it out.
func onlyModelField(variable func(*tokenizeRequest) *string) wire.Field[tokenizeRequest] {
	f := modelField(false, variable)
	f.Doc = "Name of a model that `GET /v1/models` lists; optional if there is only one."
	return f
}

// tokenizer loads the model with a name, or the only one. The caller must release the lease.
func (api *API) tokenizer(ctx context.Context, name string) (*pool.Lease, *fault.Error) {
	if name == "" {
		models := api.service.Models(ctx)
		if len(models) != 1 {
			return nil, fault.New(fault.MissingField, "model",
				"Missing required parameter: 'model'. The server has %d models.", len(models))
		}
		name = models[0].ID
	}
	return api.service.Model(ctx, name)
}

// tokensSchema describes what readTokenList reads.
var tokensSchema = wire.Schema{"type": "array", "items": tokenSchema}.Examples(`[1,2]`)

func readTokenList(v wire.Value) ([]engine.Token, *fault.Error) { return v.Numbers(wire.MaxNumbers) }

// tokenize answers POST /tokenize.
func (api *API) tokenize(w http.ResponseWriter, r *http.Request) *fault.Error {
	var req tokenizeRequest
	if e := decode(api, w, r, &req, tokenizeFields, nil); e != nil {
		return e
	}

	model, e := api.tokenizer(r.Context(), req.model)
	if e != nil {
		return e
	}
	defer model.Release()
	text, special := req.text()
	if most := longestText(model.Engine); len(text) > most {
		return fault.New(fault.InvalidValue, "prompt",
			"Invalid 'prompt': the text is too long: %d bytes (maximum %d). Split it.", len(text), most)
	}
	var tokens []engine.Token
	err := api.service.Ask(r.Context(), model, func() (err error) {
		how := engine.Reading{Control: true, Ends: true}
		tokens, err = service.NewReader(r.Context(), model).Tokenize(text, how, math.MaxInt32)
		return err
	})
	if err != nil {
		return service.Fault(err, "prompt")
	}
	if !special {
		tokens = withoutEnds(tokens, &model.Engine.Model().Marks)
	}

	body := struct {
		Count   int      `json:"count"`
		Max     int      `json:"max_model_len"`
		Tokens  any      `json:"tokens"`
		Strings []string `json:"token_strs,omitempty"`
	}{
		Count:  len(tokens),
		Max:    model.Engine.Limits().Context,
		Tokens: append([]engine.Token{}, tokens...), // [], if there are none
	}

	if req.pieces {
		body.Tokens = pieces(model.Engine.Model(), tokens)
	}

	if req.strings {
		for _, t := range tokens {
			piece := string(prompt.Piece(model.Engine.Model(), t))
			body.Strings = append(body.Strings, strings.ToValidUTF8(piece, "\uFFFD"))
		}
	}

	return wire.WriteJSON(w, body)
}

// longestText returns how long a text may be that is split into tokens for a client: as long as any prompt, in bytes.
func longestText(e pool.Engine) int {
	const always = 1 << 20
	return max(always, e.Limits().Context*e.LongestPiece())
}

// tokenPiece is a token and its text, or the numbers of its bytes where they are no text by themselves.
type tokenPiece struct {
	ID    engine.Token `json:"id"`
	Piece any          `json:"piece"`
}

func pieces(m *engine.ModelInfo, tokens []engine.Token) []tokenPiece {
	list := make([]tokenPiece, len(tokens))
	for i, t := range tokens {
		piece := prompt.Piece(m, t)
		list[i] = tokenPiece{t, string(piece)}
		if utf8.Valid(piece) {
			continue
		}
		numbers := make([]int, len(piece))
		for j, b := range piece {
			numbers[j] = int(b)
		}
		list[i].Piece = numbers
	}
	return list
}

// withoutEnds returns the tokens of a text without those that were added at its ends. Control tokens in the text
// stay: clients ask in this way for the number of one.
func withoutEnds(tokens []engine.Token, m *engine.Marks) []engine.Token {
	if n := len(tokens); m.AddBOS && n > 0 && tokens[0] == m.BOS {
		tokens = tokens[1:]
	}
	n := len(tokens)
	if n > 0 && (m.AddEOS && tokens[n-1] == m.EOS || m.AddSeparator && tokens[n-1] == m.Separator) {
		tokens = tokens[:n-1]
	}
	return tokens
}

// tokenizerBody describes a tokenizer, as a tokenizer_config.json does. What a model does not have is null.
type tokenizerBody struct {
	Class        string  `json:"tokenizer_class"`
	BOS          *string `json:"bos_token"`
	EOS          *string `json:"eos_token"`
	AddBOS       bool    `json:"add_bos_token"`
	AddEOS       bool    `json:"add_eos_token"`
	Max          int     `json:"model_max_length"`
	ChatTemplate *string `json:"chat_template"`
}

// tokenizerQuery are the parameters of GET /tokenizer_info.
var tokenizerQuery = wire.Table[string]{modelField(false, func(name *string) *string { return name })}

// tokenizerInfo answers GET /tokenizer_info, which is vLLM's. The query may name a model.
func (api *API) tokenizerInfo(w http.ResponseWriter, r *http.Request) *fault.Error {
	name := ""
	if e := tokenizerQuery.Query(r.URL.RawQuery, &name); e != nil {
		return e
	}
	model, e := api.tokenizer(r.Context(), name)
	if e != nil {
		return e
	}
	defer model.Release()

	m := model.Engine.Model()
	text := func(t engine.Token) *string { return optional(prompt.Text(m, []engine.Token{t})) }
	return wire.WriteJSON(w, tokenizerBody{
		Class:        "PreTrainedTokenizerFast", // Transformers' name of one that is read from its file
		BOS:          text(m.Marks.BOS),
		EOS:          text(m.Marks.EOS),
		AddBOS:       m.Marks.AddBOS,
		AddEOS:       m.Marks.AddEOS,
		Max:          model.Engine.Limits().Context,
		ChatTemplate: optional(m.ChatTemplate),
	})
}

// detokenize answers POST /detokenize. The text includes control tokens.
func (api *API) detokenize(w http.ResponseWriter, r *http.Request) *fault.Error {
	var req tokenizeRequest
	if e := decode(api, w, r, &req, detokenizeFields, nil); e != nil {
		return e
	}
	model, e := api.tokenizer(r.Context(), req.model)
	if e != nil {
		return e
	}
	defer model.Release()
	for i, t := range req.tokens {
		if most := len(model.Engine.Model().Pieces); int(t) >= most {
			return fault.New(fault.InvalidValue, "tokens",
				"Invalid 'tokens[%d]': token %d is outside the vocabulary (size %d).", i, t, most)
		}
	}
	return writeText(w, model, req.tokens)
}

// maxDetokenized is the maximum size of the text of tokens, in bytes.
const maxDetokenized = 16 << 20

// writeText answers with the text of tokens.
func writeText(w http.ResponseWriter, model *pool.Lease, tokens []engine.Token) *fault.Error {
	size := 0
	for _, t := range tokens {
		size += len(prompt.Piece(model.Engine.Model(), t))
	}
	if size > maxDetokenized {
		return fault.New(fault.InvalidValue, "tokens",
			"Invalid 'tokens': their text has %d bytes (maximum %d).", size, maxDetokenized)
	}

	// Written once, although it is there under two names: it may be as long as a body.
	text := wire.AppendString(make([]byte, 0, size+size/8+2), prompt.Text(model.Engine.Model(), tokens))
	body := make([]byte, 0, 2*len(text)+32)
	body = append(append(body, `{"content":`...), text...)
	body = append(append(body, `,"prompt":`...), text...)
	wire.WriteBody(w, http.StatusOK, append(body, '}'))
	return nil
}
