package ollama

import (
	"math"
	"net/http"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

var generateTable = join(modelFields, streamFields, loadFields, answerFields, table{
	{
		Name: "prompt",
		Type: wire.StringOf(func(r *request) *string { return &r.prompt }),
		Doc:  "The prompt; an empty prompt only loads the model.",
	},
	{
		Name: "suffix",
		Type: wire.StringOf(func(r *request) *string { return &r.suffix }),
		Doc:  "Text that follows the answer (fill-in-the-middle).",
	},
	{
		Name: "system",
		Type: wire.StringOf(func(r *request) *string { return &r.system }),
		Doc:  "The system prompt.",
	},
	{
		Name: "raw",
		Type: wire.BoolOf(func(r *request) *bool { return &r.raw }),
		Doc: "Whether to use the prompt as it is, without the model's template: the text of a control token is read as " +
			"that token.",
	},
	{
		Name: "images",
		Type: wire.Of(wire.ListOf(wire.String, maxImages), readImages, func(r *request) *[]prompt.Image { return &r.images }),
		Doc:  "Images in Base64.",
	},
	{
		Name: "context",
		Type: wire.Of(
			wire.ListOf(wire.Integer(0, math.MaxInt32), wire.MaxNumbers), readNumbers,
			func(r *request) *[]engine.Token { return &r.before },
		),
		Doc: "Tokens of an earlier answer, to put before the prompt.",
	},
	{
		Name: "template",
		Type: wire.Refuse[request](
			"Prompts are formatted with the model's own template; with 'raw' they are used as they are.", `""`),
	},
	{Name: "width", Type: named("0"), Doc: "Reported in `X-Ignored-Fields`: for image generation."},
	{Name: "height", Type: named("0"), Doc: "Reported in `X-Ignored-Fields`: for image generation."},
	{Name: "steps", Type: named("0"), Doc: "Reported in `X-Ignored-Fields`: for image generation."},
})

// readNumbers reads tokens.
func readNumbers(v wire.Value) ([]engine.Token, *fault.Error) { return v.Numbers(wire.MaxNumbers) }

// generate answers POST /api/generate.
func (api *API) generate(w http.ResponseWriter, r *http.Request) *fault.Error {
	a := &answer{begun: time.Now()}
	req, e := api.read(w, r, generateTable)
	if e != nil {
		return e
	}
	a.req = req
	switch {
	case req.model == "":
		return notFound(fault.New(fault.ModelNotFound, "model", ""), "")
	case req.raw && (req.system != "" || len(req.before) > 0):
		return fault.New(fault.InvalidValue, "raw", "raw mode does not support template, system, or context")
	case req.prompt == "" && req.suffix == "" && len(req.images) == 0:
		return api.loadOrUnload(w, r, a)
	case req.raw || req.suffix != "":
		return api.generatePlain(w, r, a)
	}

	a.keepsContext = len(req.images) == 0
	if req.system != "" {
		req.messages = append(req.messages, prompt.Message{Role: prompt.System, Content: req.system})
	}
	req.messages = append(req.messages, prompt.Message{
		Role:    prompt.User,
		Content: marks(req.images) + req.prompt,
		Images:  req.images,
	})
	return api.answer(w, r, a, req.conversation(), "prompt")
}

// generatePlain answers a prompt that no template is for: as it is, or the beginning of a text whose
// middle is missing.
func (api *API) generatePlain(w http.ResponseWriter, r *http.Request, a *answer) *fault.Error {
	req := a.req
	switch {
	case req.formatted:
		return fault.New(fault.Unsupported, "format", "Unsupported parameter: 'format'. It requires the model's template.")
	case len(req.images) > 0:
		return fault.New(fault.Unsupported, "images", "Unsupported parameter: 'images'. They require the model's template.")
	}

	model, e := api.worker(r.Context(), a)
	if e != nil {
		return e
	}
	reply := service.NewReply(model)
	defer reply.Close()
	var tokens []engine.Token
	err := api.service.Ask(r.Context(), model, func() (err error) {
		tokens, err = req.plainPrompt(service.NewReader(r.Context(), model))
		return err
	})
	if err != nil {
		return service.Fault(err, "prompt")
	}
	if req.debug {
		return write(w, a.appendDebug(nil, req.prompt+req.suffix))
	}

	limits := model.Engine.Limits()
	if req.context > limits.Context {
		req.notes.Ignore("options.num_ctx")
		req.setHeader(w.Header())
	}
	er := req.engineRequest(limits)
	er.Prompt = tokens
	return api.generateReply(w, r, a, reply, er, "prompt")
}

// plainPrompt returns the tokens of a prompt without a template.
func (r *request) plainPrompt(model prompt.Reader) ([]engine.Token, error) {
	limit := model.Limits().Context - 1
	if r.suffix == "" {
		return model.Tokenize(r.prompt, engine.Reading{Control: true, Ends: true}, limit)
	}
	if !prompt.FillsMiddle(model.Model()) {
		return nil, fault.New(fault.Unsupported, "suffix", "%s does not support insert", r.model)
	}
	before, err := model.Tokenize(r.prompt, engine.Reading{}, limit)
	if err != nil {
		return nil, err
	}
	after, err := model.Tokenize(r.suffix, engine.Reading{}, limit)
	if err != nil {
		return nil, err
	}
	return prompt.FillMiddle(model.Model(), before, after, "suffix")
}
