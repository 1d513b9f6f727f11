package openai

import (
	"math"
	"net/http"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// tokenizeRequest is the body of POST /tokenize and /detokenize, which are compatible with vLLM and
// llama.cpp.
type tokenizeRequest struct {
	model   string
	text    string
	special bool
	pieces  bool
	tokens  []engine.Token
}

var tokenizeFields = wire.Table[tokenizeRequest]{
	modelField(true, func(r *tokenizeRequest) *string { return &r.model }),
	{
		Name: "prompt",
		Type: wire.StringOf(func(r *tokenizeRequest) *string { return &r.text }),
		Doc:  "The text (vLLM's name).",
	},
	{
		Name: "content",
		Type: wire.StringOf(func(r *tokenizeRequest) *string { return &r.text }),
		Doc:  "The text (llama.cpp's name).",
	},
	{
		Name: "add_special_tokens",
		Type: wire.BoolOf(func(r *tokenizeRequest) *bool { return &r.special }),
		Doc:  "Whether to add the special tokens at the beginning and end of a prompt (vLLM's name).",
	},
	{
		Name: "add_special",
		Type: wire.BoolOf(func(r *tokenizeRequest) *bool { return &r.special }),
		Doc:  "llama.cpp's name for `add_special_tokens`.",
	},
	{
		Name: "return_token_strs",
		Type: wire.BoolOf(func(r *tokenizeRequest) *bool { return &r.pieces }),
		Doc:  "Whether to return the text of each token as well.",
	},
}

var detokenizeFields = wire.Table[tokenizeRequest]{
	modelField(true, func(r *tokenizeRequest) *string { return &r.model }),
	{
		Name:     "tokens",
		Required: true,
		Type: wire.Of(tokensSchema, readTokenList,
			func(r *tokenizeRequest) *[]engine.Token { return &r.tokens }),
		Doc: "The tokens.",
	},
}

// tokensSchema describes what readTokenList reads.
var tokensSchema = wire.Schema{"type": "array", "items": tokenSchema}.Examples(`[1,2]`)

func readTokenList(v wire.Value) ([]engine.Token, *fault.Error) {
	list, e := v.Array(math.MaxInt32)
	if e != nil {
		return nil, e
	}
	return readTokens(list)
}

// tokenize answers POST /tokenize.
func (api *API) tokenize(w http.ResponseWriter, r *http.Request) *fault.Error {
	req := tokenizeRequest{special: true}
	if e := decode(api, w, r, &req, tokenizeFields); e != nil {
		return e
	}

	model, e := api.service.Model(r.Context(), req.model)
	if e != nil {
		return e
	}
	defer model.Release()
	tokens, err := model.Engine.Tokenize(req.text, req.special, math.MaxInt32)
	if err != nil {
		return service.Fault(err, "prompt")
	}

	body := struct {
		Count   int            `json:"count"`
		Max     int            `json:"max_model_len"`
		Tokens  []engine.Token `json:"tokens"`
		Strings []string       `json:"token_strs,omitempty"`
	}{len(tokens), model.Engine.Limits().Context, tokens, nil}

	if body.Tokens == nil {
		body.Tokens = []engine.Token{}
	}

	if req.pieces {
		for _, t := range tokens {
			piece := string(prompt.Piece(model.Engine.Model(), t))
			body.Strings = append(body.Strings, strings.ToValidUTF8(piece, "\uFFFD"))
		}
	}

	return wire.WriteJSON(w, body)
}

// detokenize answers POST /detokenize. The text includes control tokens.
func (api *API) detokenize(w http.ResponseWriter, r *http.Request) *fault.Error {
	var req tokenizeRequest
	if e := decode(api, w, r, &req, detokenizeFields); e != nil {
		return e
	}
	model, e := api.service.Model(r.Context(), req.model)
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
	text := prompt.Text(model.Engine.Model(), req.tokens)
	return wire.WriteJSON(w, map[string]string{"prompt": text, "content": text})
}
