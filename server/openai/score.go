package openai

import (
	"context"
	"net/http"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/server/wire"
	"serve/service"
)

// scoreRequest is the body of POST /v1/score, which is vLLM's: pairs of texts.
type scoreRequest struct {
	model   string
	queries texts
	answers texts
}

// texts are one text, or a list.
type texts struct {
	field string // by which they were given
	list  []string
	many  bool // a list, also one of a single text
}

var scoreFields = append(wire.Table[scoreRequest]{
	modelField(true, func(r *scoreRequest) *string { return &r.model }),
	{
		Name: "use_activation",
		Type: wire.Refuse[scoreRequest]("Scores are always from 0 to 1.", "true"),
	},
	{
		Name: "activation",
		Type: wire.Refuse[scoreRequest]("Scores are always from 0 to 1.", "true"),
	},
	{
		Name: "truncate_prompt_tokens",
		Type: wire.Refuse[scoreRequest]("Texts are never truncated: one that is too long is an error."),
	},
	userField[scoreRequest](),
}, append(
	textFields("The text to compare the others with, or one text for each of them.",
		func(r *scoreRequest) *texts { return &r.queries }, "text_1", "queries", "data_1"),
	textFields("The texts to score.",
		func(r *scoreRequest) *texts { return &r.answers }, "text_2", "documents", "items", "data_2")...,
)...)

// textFields declares the names of a field with texts.
func textFields(doc string, variable func(*scoreRequest) *texts, names ...string) (table wire.Table[scoreRequest]) {
	for _, name := range names {
		table = append(table, wire.Field[scoreRequest]{
			Name: name,
			Type: wire.Of(wire.AnyOf(wire.String, documentsSchema), readTexts, variable),
			Doc:  doc,
		})
	}
	return table
}

func readTexts(v wire.Value) (t texts, e *fault.Error) {
	t.field = v.Name
	if t.many = v.Raw[0] == '['; t.many {
		t.list, e = readDocuments(v)
		return t, e
	}
	text, e := v.Text()
	t.list = []string{text}
	return t, e
}

// check pairs the texts.
func (r *scoreRequest) check() *fault.Error {
	switch queries, answers := len(r.queries.list), len(r.answers.list); {
	case queries == 0:
		return fault.New(fault.MissingField, "text_1", "Missing required parameter: 'text_1'.")
	case answers == 0:
		return fault.New(fault.MissingField, "text_2", "Missing required parameter: 'text_2'.")
	case r.queries.many && queries != 1 && queries != answers:
		return fault.New(fault.InvalidValue, r.queries.field,
			"Invalid '%s': %d texts cannot be paired with %d; send one, or as many as the other list has.",
			r.queries.field, queries, answers)
	}
	return nil
}

// scoreBody is the answer of POST /v1/score.
type scoreBody struct {
	ID      string      `json:"id"`
	Object  string      `json:"object"`
	Created int64       `json:"created"`
	Model   string      `json:"model"`
	Data    []scoreData `json:"data"`
	Usage   usage       `json:"usage"`
}

type scoreData struct {
	Index  int     `json:"index"`
	Object string  `json:"object"`
	Score  float32 `json:"score"`
}

// score answers POST /v1/score: how well each text answers its query, in the order of the request.
func (api *API) score(w http.ResponseWriter, r *http.Request) *fault.Error {
	var req scoreRequest
	if e := decode(api, w, r, &req, scoreFields, req.check); e != nil {
		return e
	}

	model, e := api.service.Worker(r.Context(), req.model, engine.TierDefault)
	if e != nil {
		return e
	}
	defer model.Release()
	scores, tokens, err := req.rank(r.Context(), model)
	if err != nil {
		return service.Fault(err, req.answers.field)
	}

	body := scoreBody{
		ID:      "score-" + wire.RandomID(),
		Object:  "list",
		Created: time.Now().Unix(),
		Model:   req.model,
		Data:    make([]scoreData, len(scores)),
	}
	body.Usage.add(engine.Usage{Prompt: tokens})
	for i, score := range scores {
		body.Data[i] = scoreData{Index: i, Object: "score", Score: score}
	}
	return wire.WriteJSON(w, body)
}

// rank scores all texts with one query, or each with its own.
func (r *scoreRequest) rank(ctx context.Context, model *pool.Lease) (scores []float32, tokens int, err error) {
	if len(r.queries.list) == 1 {
		return service.Rank(ctx, model, r.queries.list[0], r.answers.list)
	}
	for i, query := range r.queries.list {
		one, n, err := service.Rank(ctx, model, query, r.answers.list[i:i+1])
		if err != nil {
			return nil, 0, err
		}
		scores = append(scores, one...)
		tokens += n
	}
	return scores, tokens, nil
}
