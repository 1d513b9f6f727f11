package openai

import (
	"context"
	"net/http"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// rendered is a prompt as a model reads it, in the form of vLLM's render endpoints. Routers ask for it to find out
// which server has computed the beginning of a prompt before.
type rendered struct {
	Model    string         `json:"model"`
	Tokens   []engine.Token `json:"token_ids"` // 0 where an image is
	Features *features      `json:"features"`  // null if there are no images
}

// features say where images are in a prompt, by kind of what they are.
type features struct {
	Hashes       map[string][]string      `json:"mm_hashes"`
	Placeholders map[string][]placeholder `json:"mm_placeholders"`
}

// placeholder is a run of tokens that an image takes.
type placeholder struct {
	Offset int `json:"offset"`
	Length int `json:"length"`
}

func newRendered(model string, tokens []engine.Token, pictures []prompt.Picture) rendered {
	r := rendered{Model: model, Tokens: append([]engine.Token{}, tokens...)}
	if len(pictures) == 0 {
		return r
	}

	var hashes []string
	var places []placeholder
	for _, p := range pictures {
		hashes = append(hashes, p.Hash)
		places = append(places, placeholder{p.Offset, p.Length})
		clear(r.Tokens[p.Offset : p.Offset+p.Length])
	}
	r.Features = &features{
		Hashes:       map[string][]string{"image": hashes},
		Placeholders: map[string][]placeholder{"image": places},
	}
	return r
}

// renderChat answers POST /v1/chat/completions/render.
func (api *API) renderChat(w http.ResponseWriter, r *http.Request) *fault.Error {
	req := chatRequest{conversationRequest: newConversationRequest()}
	if e := decode(api, w, r, &req, chatFields, req.check); e != nil {
		return e
	}
	model, e := api.service.Model(r.Context(), req.model)
	if e != nil {
		return e
	}
	defer model.Release()

	p, err := api.service.Prompt(r.Context(), model, req.conversation())
	if err != nil {
		return service.Fault(err, "messages")
	}
	var answer rendered
	e = service.Compute(r.Context(), func(ctx context.Context) *fault.Error {
		answer = newRendered(req.model, p.Tokens, p.Pictures(func() { service.Pause(ctx) }))
		return nil
	})
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, answer)
}

// renderCompletions answers POST /v1/completions/render.
func (api *API) renderCompletions(w http.ResponseWriter, r *http.Request) *fault.Error {
	req := completionRequest{params: defaultParams()}
	if e := decode(api, w, r, &req, completionFields, req.check); e != nil {
		return e
	}
	model, e := api.service.Model(r.Context(), req.model)
	if e != nil {
		return e
	}
	defer model.Release()

	const most = dialect.MaxText + 16*maxInputs // tokens of what a body can have; only a suffix makes more
	total := 0
	var list []rendered
	reader := service.NewReader(r.Context(), model)
	err := api.service.AskEach(r.Context(), model, len(req.prompts), func(i int) error {
		tokens, err := req.prompt(reader, req.prompts[i])
		if total += len(tokens); total > most {
			return fault.New(fault.InvalidValue, "suffix",
				"The prompts with their suffix have more than %d tokens: send fewer at once.", most)
		}
		list = append(list, newRendered(req.model, tokens, nil))
		return err
	})
	if err != nil {
		return service.Fault(err, "prompt")
	}
	return wire.WriteJSON(w, list)
}
