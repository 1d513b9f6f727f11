package openai

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/server/wire"
	"serve/service"
)

// embeddingRequest is the body of POST /v1/embeddings.
type embeddingRequest struct {
	model      string
	inputs     []input
	base64     bool
	dimensions int
}

var embeddingFields = wire.Table[embeddingRequest]{
	modelField(true, func(r *embeddingRequest) *string { return &r.model }),
	{
		Name:     "input",
		Required: true,
		Type: wire.Of(inputsSchema(wire.Schema{"type": "string", "minLength": 1}), readEmbedded,
			func(r *embeddingRequest) *[]input { return &r.inputs }),
		Doc: "The text to embed: a string, an array of token IDs, or an array of either.",
	},
	{
		Name: "encoding_format",
		Type: wire.OneOf((*embeddingRequest).setFormat, "float", "base64"),
		Doc:  "Whether an embedding is an array of numbers or Base64 of little-endian 32-bit floats.",
	},
	{
		Name: "dimensions",
		Type: wire.IntegerOf(1, math.MaxInt32, func(r *embeddingRequest) *int { return &r.dimensions }),
		Doc:  "Length to truncate embeddings to, if the model supports it.",
	},
	userField[embeddingRequest](),
}

func readEmbedded(v wire.Value) ([]input, *fault.Error) { return readInputs(v, false) }

func (r *embeddingRequest) setFormat(format string) { r.base64 = format == "base64" }

type embeddingItem struct {
	Object    string          `json:"object"`
	Index     int             `json:"index"`
	Embedding json.RawMessage `json:"embedding"`
}

type embeddingBody struct {
	Object string          `json:"object"`
	Data   []embeddingItem `json:"data"`
	Model  string          `json:"model"`
	Usage  struct {
		PromptTokens int `json:"prompt_tokens"`
		TotalTokens  int `json:"total_tokens"`
	} `json:"usage"`
}

// embeddings answers POST /v1/embeddings.
func (api *API) embeddings(w http.ResponseWriter, r *http.Request) *fault.Error {
	var req embeddingRequest
	if e := decode(api, w, r, &req, embeddingFields, nil); e != nil {
		return e
	}

	model, e := api.service.Worker(r.Context(), req.model, engine.TierDefault)
	if e != nil {
		return e
	}
	defer model.Release()
	if e := req.checkDimensions(model); e != nil {
		return e
	}

	body := embeddingBody{Object: "list", Model: req.model}
	tokens := make([][]engine.Token, len(req.inputs))
	reader := service.NewReader(r.Context(), model)
	err := api.service.AskEach(r.Context(), model, len(req.inputs), func(i int) (err error) {
		tokens[i], err = req.inputs[i].tokenize(reader, engine.Reading{Ends: true}, reader.Limits().EmbedTokens)
		body.Usage.PromptTokens += len(tokens[i])
		return err
	})
	if err != nil {
		return service.Fault(err, "input")
	}

	body.Usage.TotalTokens = body.Usage.PromptTokens

	vectors, err := service.Embed(r.Context(), model, tokens)
	if err != nil {
		return req.explain(service.Fault(err, "input"))
	}

	for i, v := range vectors {
		if req.dimensions > 0 {
			v = v[:req.dimensions]
			engine.Normalize(v)
		}
		body.Data = append(body.Data, embeddingItem{"embedding", i, encodeVector(v, req.base64)})
	}

	return wire.WriteJSON(w, body)
}

// explain adds to an error about token ids why a client may have sent them. Other tokenizers' ids that the
// model happens to have, too, cannot be told from its own.
func (r *embeddingRequest) explain(e *fault.Error) *fault.Error {
	isText := func(in input) bool { return in.tokens == nil }
	if e.Kind == fault.InvalidValue && !slices.ContainsFunc(r.inputs, isText) {
		e.Message += " The token IDs may come from another tokenizer, such as OpenAI's. " +
			"In LangChain, check_embedding_ctx_length=False sends text instead."
	}
	return e
}

// matryoshka matches models that were trained so that a prefix of an embedding is an embedding, too.
var matryoshka = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`nomic-embed-text-v(1\.5|2)`,
	`qwen-?3-embedding`,
	`embeddinggemma`,
	`mxbai-embed-large`,
	`arctic-embed-(m-v1\.5|[lm]-v2)`,
	`jina-embeddings-v[3-5]`,
}, "|"))

// checkDimensions returns an error if the model's embeddings cannot be shortened.
func (r *embeddingRequest) checkDimensions(m *pool.Lease) *fault.Error {
	f := m.Engine.Model()
	switch {
	case r.dimensions == 0 || r.dimensions == f.EmbeddingSize:
		return nil
	case r.dimensions > f.EmbeddingSize:
		return fault.New(fault.InvalidValue, "dimensions",
			"Invalid 'dimensions': the model's embeddings have %d dimensions.", f.EmbeddingSize)
	case !matryoshka.MatchString(f.Name) && !matryoshka.MatchString(m.ID):
		return fault.New(fault.Unsupported, "dimensions", "Unsupported parameter: 'dimensions'. "+
			"The model's embeddings have %d dimensions and cannot be truncated.", f.EmbeddingSize)
	}
	return nil
}

// encodeVector writes a vector as JSON: an array of numbers, or a string of the
// base64 of its little-endian float32s.
func encodeVector(v []float32, asBase64 bool) []byte {
	if asBase64 {
		raw := make([]byte, 0, 4*len(v))
		for _, f := range v {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
		}
		return wire.AppendString(nil, base64.StdEncoding.EncodeToString(raw))
	}
	b := []byte{'['}
	for i, f := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = wire.AppendFloat(b, f)
	}
	return append(b, ']')
}
