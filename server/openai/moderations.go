package openai

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// moderationRequest is the body of POST /v1/moderations.
type moderationRequest struct {
	model string
	texts []string
}

var moderationFields = wire.Table[moderationRequest]{
	modelField(false, func(r *moderationRequest) *string { return &r.model }),
	{
		Name:     "input",
		Required: true,
		Type: wire.Of(moderatedSchema, readModerated,
			func(r *moderationRequest) *[]string { return &r.texts }),
		Doc: "The content to classify: a string, an array of strings, or the parts of one message.",
	},
}

// moderatedSchema describes what readModerated reads.
var moderatedSchema = wire.AnyOf(
	wire.String,
	wire.ListOf(wire.String, maxInputs).NonEmpty(),
	wire.ListOf(partSchema, maxParts).NonEmpty(),
).Examples(`"Hello"`, `["a","b"]`, `[{"type":"text","text":"a"}]`)

// readModerated reads a text, texts, or the parts of one message.
func readModerated(v wire.Value) ([]string, *fault.Error) {
	if v.Raw[0] == '"' {
		text, e := v.Text()
		return []string{text}, e
	}

	items, e := v.Array(maxInputs)
	if e != nil {
		return nil, e
	}
	if len(items) == 0 {
		return nil, v.Empty()
	}

	if items[0].Raw[0] == '{' {
		text, _, e := readParts(v, textParts)
		return []string{text}, e
	}

	texts := make([]string, len(items))
	for i, item := range items {
		if texts[i], e = item.Text(); e != nil {
			return nil, e
		}
	}

	return texts, nil
}

// openAIModerators are the names of OpenAI's models, which existing clients send.
var openAIModerators = []string{
	"",
	"omni-moderation-latest",
	"omni-moderation-2024-09-26",
	"text-moderation-latest",
	"text-moderation-stable",
}

// moderator returns the name of the model to use. Only the configured one is suitable, and there is none for a client
// that may not use it.
func (api *API) moderator(ctx context.Context, name string) (string, *fault.Error) {
	judge, missing := api.service.Named(ctx, api.opts.Moderator)
	switch {
	case api.opts.Moderator == "" || missing != nil:
		return "", fault.New(fault.ModelNotFound, "model", "No moderation model is configured: "+
			"start serve with --moderation and the name of a Llama Guard model.")
	case slices.Contains(openAIModerators, name):
		return api.opts.Moderator, nil
	}

	m, e := api.service.Named(ctx, name)
	if e != nil {
		return "", e
	}
	if m != judge {
		return "", fault.New(fault.ModelNotFound, "model",
			"The model '%s' is not the moderation model, which is '%s'.", name, api.opts.Moderator)
	}
	return name, nil
}

// guardCategories maps a guard's categories to OpenAI's. The keys are names, because the numbers differ
// between versions. Some categories have no counterpart.
var guardCategories = map[string][]string{
	"violent crimes":                     {"illicit", "illicit/violent", "violence"},
	"non-violent crimes":                 {"illicit"},
	"sex-related crimes":                 {"sexual"},
	"sex crimes":                         {"sexual"},
	"child sexual exploitation":          {"sexual/minors"},
	"child exploitation":                 {"sexual/minors"},
	"indiscriminate weapons":             {"illicit", "illicit/violent"},
	"hate":                               {"hate"},
	"suicide & self-harm":                {"self-harm"},
	"self-harm":                          {"self-harm"},
	"sexual content":                     {"sexual"},
	"code interpreter abuse":             {"illicit"},
	"violence and hate":                  {"hate", "violence"},
	"criminal planning":                  {"illicit"},
	"guns and illegal weapons":           {"illicit", "illicit/violent"},
	"regulated or controlled substances": {"illicit"},
	"suicide and self harm":              {"self-harm"},
}

// moderationCategories are OpenAI's categories.
var moderationCategories = []string{
	"harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
	"self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
}

type moderationBody struct {
	ID      string             `json:"id"`
	Model   string             `json:"model"`
	Results []moderationResult `json:"results"`
}

type moderationResult struct {
	Flagged    bool                `json:"flagged"`
	Categories map[string]bool     `json:"categories"`
	Scores     map[string]float64  `json:"category_scores"`
	Applied    map[string][]string `json:"category_applied_input_types"`
	// Named are the guard's own categories, as named in its template.
	Named []string `json:"guard_categories"`
}

// answeredBy returns the model that answers for the one of a name; empty if none does.
func (*moderationRequest) answeredBy(ctx context.Context, api *API, name string) string {
	served, e := api.moderator(ctx, name)
	if e != nil {
		return ""
	}
	return served
}

// moderations answers POST /v1/moderations with a Llama Guard model.
func (api *API) moderations(w http.ResponseWriter, r *http.Request) *fault.Error {
	var req moderationRequest
	if e := decode(api, w, r, &req, moderationFields, nil); e != nil {
		return e
	}

	name, e := api.moderator(r.Context(), req.model)
	if e != nil {
		return e
	}

	model, e := api.service.Worker(r.Context(), name, engine.TierDefault)
	if e != nil {
		return e
	}

	reply := service.NewReply(model)
	defer reply.Close()

	guard, err := prompt.NewGuard(service.NewReader(r.Context(), model))
	if err != nil {
		return service.Fault(err, "model")
	}
	if guard == nil {
		return fault.New(fault.InvalidValue, "model",
			"The model '%s' is not a Llama Guard model: its template lists no categories of unsafe content.", name)
	}

	if err := api.ask(r.Context(), guard, req.texts, reply); err != nil {
		return service.Fault(err, "input")
	}

	body := moderationBody{ID: "modr-" + wire.RandomID(), Model: model.ID}
	for _, stream := range reply.Streams {
		choices, err := collect(r.Context(), reply, stream, 1)
		if err != nil {
			return service.Fault(err, "input")
		}
		answer := choices[0]
		if answer.Finish != engine.FinishStop {
			return fault.New(fault.ContextExceeded, "input",
				"The input leaves no room in the context for the verdict of '%s'.", name)
		}
		body.Results = append(body.Results, newModerationResult(guard.Judge(answer.Text(), answer.tokens)))
	}

	return wire.WriteJSON(w, body)
}

// ask has a guard judge texts: a stream of the reply for each.
func (api *API) ask(ctx context.Context, guard *prompt.Guard, texts []string, reply *service.Reply) error {
	requests := make([]engine.Request, len(texts))
	err := api.service.AskEach(ctx, reply.Model, len(texts), func(i int) (err error) {
		requests[i], err = guard.Ask(texts[i])
		return err
	})
	if err != nil {
		return err
	}
	return reply.GenerateAll(ctx, requests)
}

// newModerationResult converts a verdict. A guard returns a single probability, which becomes the
// score of every category found; the others have 0.
func newModerationResult(v prompt.Verdict) moderationResult {
	r := moderationResult{
		Flagged:    v.Unsafe,
		Categories: map[string]bool{},
		Scores:     map[string]float64{},
		Applied:    map[string][]string{},
		Named:      append([]string{}, v.Categories...),
	}
	for _, c := range moderationCategories {
		r.Categories[c] = false
		r.Scores[c] = 0
		r.Applied[c] = []string{}
	}

	for _, name := range v.Categories {
		for _, c := range guardCategories[strings.ToLower(name)] {
			r.Categories[c] = true
			r.Scores[c] = v.Probability
			r.Applied[c] = []string{"text"}
		}
	}
	return r
}
