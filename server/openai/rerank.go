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

var rerankFields = wire.Fields[rerankRequest]{
	"model":     func(r *rerankRequest, v wire.Value) (e *fault.Error) { r.model, e = v.Text(); return e },
	"query":     func(r *rerankRequest, v wire.Value) (e *fault.Error) { r.query, e = v.Text(); return e },
	"documents": func(r *rerankRequest, v wire.Value) (e *fault.Error) { r.documents, e = readDocuments(v); return e },
	"top_n": func(r *rerankRequest, v wire.Value) *fault.Error {
		n, e := v.Integer(1, math.MaxInt32)
		r.top = int(n)
		return e
	},
	"return_documents":   func(r *rerankRequest, v wire.Value) (e *fault.Error) { r.echo, e = v.Bool(); return e },
	"max_chunks_per_doc": wire.Refused[rerankRequest]("Documents are not cut."),
	"max_tokens_per_doc": wire.Refused[rerankRequest]("Documents are not cut."),
	"rank_fields":        wire.Refused[rerankRequest]("Documents are texts."),
	"user":               wire.Accepted[rerankRequest](wire.IsString),
}

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
			if e := wire.Only(object, "text"); e != nil {
				return nil, e
			}
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
	if e := decode(r, &req, rerankFields, "model", "query", "documents"); e != nil {
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
		Model:   model.ID,
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
