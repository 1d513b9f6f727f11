package ollama

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

var embedTable = join(modelFields, loadFields, table{
	{
		Name: "input",
		Type: wire.Custom(wire.AnyOf(wire.String, wire.ListOf(wire.String, maxInputs)), setInput),
		Doc:  "The text to embed; an empty one only loads the model.",
	},
	{
		Name: "dimensions",
		Type: wire.IntegerOf(0, math.MaxInt32, func(r *request) *int { return &r.dimensions }),
		Doc:  "Length to truncate embeddings to, whether the model supports it or not.",
	},
})

var embeddingsTable = join(modelFields, loadFields, table{{
	Name: "prompt",
	Type: wire.StringOf(func(r *request) *string { return &r.prompt }),
	Doc:  "The text to embed; an empty one only loads the model.",
}})

// setInput reads a string or a list of strings.
func setInput(r *request, v wire.Value) *fault.Error {
	wrong := fault.New(fault.WrongType, v.Name, "invalid input type")
	list := []wire.Value{v}
	if v.Raw[0] == '[' {
		var e *fault.Error
		if list, e = v.Array(maxInputs); e != nil {
			return e
		}
	}
	for _, item := range list {
		s, e := item.Text()
		if e != nil {
			return wrong
		}
		r.inputs = append(r.inputs, s)
	}
	if v.Raw[0] == '"' && r.inputs[0] == "" {
		r.inputs = nil
	}
	return nil
}

// embed answers POST /api/embed.
func (api *API) embed(w http.ResponseWriter, r *http.Request) *fault.Error {
	a := &answer{begun: time.Now()}
	req, e := api.read(w, r, embedTable)
	if e != nil {
		return e
	}
	a.req = req
	vectors, tokens, e := api.embedInputs(w, r, a, "input")
	if e != nil {
		return e
	}

	b := wire.AppendString([]byte(`{"model":`), req.model)
	b = append(b, `,"embeddings":[`...)
	for i, v := range vectors {
		if i > 0 {
			b = append(b, ',')
		}
		if req.dimensions > 0 && req.dimensions < len(v) {
			v = v[:req.dimensions]
			engine.Normalize(v)
		}
		b = appendVector(b, v)
	}
	b = append(b, ']')
	if len(vectors) > 0 {
		b = appendNumber(b, "total_duration", int64(time.Since(a.begun)))
		b = appendNumber(b, "load_duration", int64(max(a.loaded, 1)))
		b = appendNumber(b, "prompt_eval_count", int64(tokens))
	}
	return write(w, append(b, '}'))
}

// embeddings answers POST /api/embeddings, the older endpoint with one input.
func (api *API) embeddings(w http.ResponseWriter, r *http.Request) *fault.Error {
	a := &answer{begun: time.Now()}
	req, e := api.read(w, r, embeddingsTable)
	if e != nil {
		return e
	}
	if req.model == "" {
		return fault.New(fault.MissingField, "model", "model is required")
	}
	a.req = req
	if req.prompt != "" {
		req.inputs = []string{req.prompt}
	}
	vectors, _, e := api.embedInputs(w, r, a, "prompt")
	if e != nil {
		return e
	}
	b := []byte(`{"embedding":`)
	if len(vectors) == 0 {
		return write(w, append(b, "[]}"...))
	}
	return write(w, append(appendVector(b, vectors[0]), '}'))
}

// embedInputs loads the model and embeds the inputs, if there are any. Field is their name in errors.
func (api *API) embedInputs(
	w http.ResponseWriter, r *http.Request, a *answer, field string,
) (vectors [][]float32, count int, e *fault.Error) {
	req := a.req
	model, e := api.service.Worker(r.Context(), req.model, engine.TierDefault)
	if e != nil {
		return nil, 0, notFound(e, req.model)
	}
	defer model.Release()
	a.loaded = time.Since(a.begun)
	api.keep(r.Context(), model.Model, req)
	if len(req.inputs) == 0 {
		return nil, 0, nil
	}

	tokens := make([][]engine.Token, len(req.inputs))
	reader := service.NewReader(r.Context(), model)
	cut := 0
	err := api.service.AskEach(r.Context(), model, len(req.inputs), func(i int) error {
		list, wasCut, e := req.embedTokens(reader, req.inputs[i], field)
		if e != nil {
			return e
		}
		if wasCut {
			cut++
		}
		tokens[i] = list
		count += len(list)
		return nil
	})
	if err != nil {
		return nil, 0, service.Fault(err, field)
	}
	if cut > 0 {
		w.Header().Set(truncatedInputsHeader, strconv.Itoa(cut))
	}

	vectors, err = service.Embed(r.Context(), model, tokens)
	if err != nil {
		return nil, 0, service.Fault(err, field)
	}
	for _, v := range vectors {
		for _, x := range v {
			if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
				return nil, 0, fault.New(fault.Internal, "", "The model's embedding contains NaN or infinite values.")
			}
		}
	}
	return vectors, count, nil
}

// truncatedInputsHeader says how many inputs were cut.
const truncatedInputsHeader = "X-Truncated-Inputs"

// embedTokens returns the tokens of an input. One that is too long is an error, unless the request asks
// for it to be cut. num_ctx may lower the limit.
func (r *request) embedTokens(model prompt.Reader, text, field string) ([]engine.Token, bool, *fault.Error) {
	limit := model.Limits().EmbedTokens
	if r.context > 0 {
		limit = min(limit, r.context)
	}
	cut := r.truncate != nil && *r.truncate
	most := limit
	if cut {
		most = math.MaxInt // all of it, to know how it ends
	}

	list, err := model.Tokenize(text, engine.Reading{Ends: true}, most)
	var length *engine.LengthError
	switch {
	case errors.As(err, &length):
		return nil, false, tooLong(field, length.Count(), limit)
	case err != nil:
		return nil, false, service.Fault(err, field)
	case len(list) <= limit:
		return list, false, nil
	case !cut:
		return nil, false, tooLong(field, strconv.Itoa(len(list)), limit)
	}

	last := list[len(list)-1]
	list = list[:limit]
	marks := model.Model().Marks
	if marks.AddEOS && last == marks.EOS || marks.AddSeparator && last == marks.Separator {
		list[limit-1] = last
	}
	return list, true, nil
}

func tooLong(field, has string, limit int) *fault.Error {
	return fault.New(fault.ContextExceeded, field,
		"the input length exceeds the context length: %s tokens (maximum %d); with \"truncate\": true it is truncated",
		has, limit)
}

// appendVector appends an array of numbers.
func appendVector(b []byte, v []float32) []byte {
	b = append(b, '[')
	for i, f := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = wire.AppendFloat(b, f)
	}
	return append(b, ']')
}
