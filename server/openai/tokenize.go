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

func readText(r *tokenizeRequest, v wire.Value) (e *fault.Error) { r.text, e = v.Text(); return e }

func readSpecial(r *tokenizeRequest, v wire.Value) (e *fault.Error) {
	r.special, e = v.Bool()
	return e
}

var tokenizeFields = wire.Fields[tokenizeRequest]{
	"model":              func(r *tokenizeRequest, v wire.Value) (e *fault.Error) { r.model, e = v.Text(); return e },
	"prompt":             readText,
	"content":            readText,
	"add_special_tokens": readSpecial,
	"add_special":        readSpecial,
	"return_token_strs":  func(r *tokenizeRequest, v wire.Value) (e *fault.Error) { r.pieces, e = v.Bool(); return e },
}

var detokenizeFields = wire.Fields[tokenizeRequest]{
	"model": func(r *tokenizeRequest, v wire.Value) (e *fault.Error) { r.model, e = v.Text(); return e },
	"tokens": func(r *tokenizeRequest, v wire.Value) *fault.Error {
		list, e := v.Array(math.MaxInt32)
		if e != nil {
			return e
		}
		r.tokens, e = readTokens(list)
		return e
	},
}

// tokenize answers POST /tokenize.
func (api *API) tokenize(w http.ResponseWriter, r *http.Request) *fault.Error {
	req := tokenizeRequest{special: true}
	if e := decode(r, &req, tokenizeFields, "model"); e != nil {
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
			body.Strings = append(body.Strings, strings.ToValidUTF8(string(prompt.Piece(model.Engine.Model(), t)), "\uFFFD"))
		}
	}

	return wire.WriteJSON(w, body)
}

// detokenize answers POST /detokenize. The text includes control tokens.
func (api *API) detokenize(w http.ResponseWriter, r *http.Request) *fault.Error {
	var req tokenizeRequest
	if e := decode(r, &req, detokenizeFields, "model", "tokens"); e != nil {
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
				"Invalid 'tokens[%d]': %d is not a token of the vocabulary, which has %d.", i, t, most)
		}
	}
	text := prompt.Text(model.Engine.Model(), req.tokens)
	return wire.WriteJSON(w, map[string]string{"prompt": text, "content": text})
}
