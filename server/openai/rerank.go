package openai

import (
	"cmp"
	"math"
	"net/http"
	"slices"

	"serve/engine"
	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// rerankRequest is the body of POST /v1/rerank, which is compatible with Jina and Cohere.
type rerankRequest struct {
	model     string
	query     string
	documents []string
	top       int  // results wanted, 0 for all
	echo      bool // the documents come with the results
}

var rerankFields = wire.Table[rerankRequest]{
	modelField(true, func(r *rerankRequest) *string { return &r.model }),
	{
		Name:     "query",
		Required: true,
		Type:     wire.StringOf(func(r *rerankRequest) *string { return &r.query }),
		Doc:      "The text to compare the documents with.",
	},
	{
		Name:     "documents",
		Required: true,
		Type: wire.Of(documentsSchema, readDocuments,
			func(r *rerankRequest) *[]string { return &r.documents }),
		Doc: "The documents to rank: strings, or objects with a `text`.",
	},
	{
		Name: "top_n",
		Type: wire.IntegerOf(1, math.MaxInt32, func(r *rerankRequest) *int { return &r.top }),
		Doc:  "Maximum number of results, most relevant first.",
	},
	{
		Name: "return_documents",
		Type: wire.BoolOf(func(r *rerankRequest) *bool { return &r.echo }),
		Doc:  "Whether to return the documents with the results.",
	},
	{
		Name: "max_chunks_per_doc",
		Type: wire.Refuse[rerankRequest]("Documents are never truncated."),
	},
	{
		Name: "max_tokens_per_doc",
		Type: wire.Refuse[rerankRequest]("Documents are never truncated."),
	},
	{
		Name: "rank_fields",
		Type: wire.Refuse[rerankRequest]("Only text documents are supported."),
	},
	userField[rerankRequest](),
}

// documentsSchema describes what readDocuments reads.
var documentsSchema = wire.ListOf(wire.AnyOf(
	wire.String,
	wire.Closed(map[string]wire.Schema{"text": wire.String}, "text"),
), maxInputs).NonEmpty().Examples(`["a",{"text":"b"}]`)

// readDocuments reads strings, or objects with a text.
func readDocuments(v wire.Value) ([]string, *fault.Error) {
	items, e := v.Array(maxInputs)
	if e != nil {
		return nil, e
	}
	if len(items) == 0 {
		return nil, v.Empty()
	}

	documents := make([]string, len(items))
	for i, item := range items {
		if item.Raw[0] == '{' {
			object, e := item.Object()
			if e != nil {
				return nil, e
			}
			wire.Others(object, "text")
			if item, e = item.Required(object, "text"); e != nil {
				return nil, e
			}
		}
		if documents[i], e = item.Text(); e != nil {
			return nil, e
		}
	}

	return documents, nil
}

type rerankResult struct {
	Index    int             `json:"index"`
	Score    float32         `json:"relevance_score"`
	Document *rerankDocument `json:"document,omitempty"`
}

type rerankDocument struct {
	Text string `json:"text"`
}

type rerankBody struct {
	ID      string         `json:"id"`
	Object  string         `json:"object"`
	Model   string         `json:"model"`
	Results []rerankResult `json:"results"`
	Usage   struct {
		PromptTokens int `json:"prompt_tokens"`
		TotalTokens  int `json:"total_tokens"`
	} `json:"usage"`
}

// rerank answers POST /v1/rerank: documents sorted by relevance.
func (api *API) rerank(w http.ResponseWriter, r *http.Request) *fault.Error {
	var req rerankRequest
	if e := decode(api, w, r, &req, rerankFields, nil); e != nil {
		return e
	}

	model, e := api.service.Worker(r.Context(), req.model, engine.TierDefault)
	if e != nil {
		return e
	}
	defer model.Release()
	scores, tokens, err := service.Rank(r.Context(), model, req.query, req.documents)
	if err != nil {
		return service.Fault(err, "documents")
	}

	body := rerankBody{
		ID:      "rerank-" + wire.RandomID(),
		Object:  "list",
		Model:   req.model,
		Results: make([]rerankResult, len(scores)),
	}

	body.Usage.PromptTokens = tokens
	body.Usage.TotalTokens = tokens
	for i, score := range scores {
		body.Results[i] = rerankResult{Index: i, Score: score}
		if req.echo {
			body.Results[i].Document = &rerankDocument{req.documents[i]}
		}
	}

	slices.SortStableFunc(body.Results, func(a, b rerankResult) int { return cmp.Compare(b.Score, a.Score) })
	if req.top > 0 {
		body.Results = body.Results[:min(req.top, len(body.Results))]
	}

	return wire.WriteJSON(w, body)
}
