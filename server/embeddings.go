package server

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"

	"serve/engine"
)

// embeddingRequest is the body of POST /v1/embeddings.
type embeddingRequest struct {
	model      string
	inputs     []input
	base64     bool
	dimensions int
}

var embeddingFields = fields[embeddingRequest]{
	"model": func(r *embeddingRequest, v value) (e *Error) { r.model, e = v.string(); return e },
	"input": func(r *embeddingRequest, v value) (e *Error) { r.inputs, e = readInputs(v, false); return e },
	"encoding_format": func(r *embeddingRequest, v value) *Error {
		format, e := v.one("float", "base64")
		r.base64 = format == "base64"
		return e
	},
	"dimensions": func(r *embeddingRequest, v value) *Error {
		n, e := v.integer(1, math.MaxInt32)
		r.dimensions = int(n)
		return e
	},
	"user": accepted[embeddingRequest](aString),
}

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
func (s *Server) embeddings(w http.ResponseWriter, r *http.Request) *Error {
	var req embeddingRequest
	if e := decode(r, &req, embeddingFields, "model", "input"); e != nil {
		return e
	}
	model, e := s.model(r, req.model)
	if e != nil {
		return e
	}
	defer model.release()
	if size := model.Engine.Model().EmbeddingSize; req.dimensions != 0 && req.dimensions != size {
		return unsupported("dimensions", "Unsupported parameter: 'dimensions'. The model's embeddings have %d dimensions and cannot be shortened.", size)
	}
	body := embeddingBody{Object: "list", Model: model.ID}
	tokens := make([][]engine.Token, len(req.inputs))
	for i, in := range req.inputs {
		list, err := in.tokenize(model.Engine, model.Engine.Limits().EmbedTokens)
		if err != nil {
			return toError(err, "input")
		}
		tokens[i] = list
		body.Usage.PromptTokens += len(list)
	}
	body.Usage.TotalTokens = body.Usage.PromptTokens
	vectors, err := model.Engine.Embed(r.Context(), tokens)
	if err != nil {
		return toError(err, "input")
	}
	for i, v := range vectors {
		body.Data = append(body.Data, embeddingItem{"embedding", i, encodeVector(v, req.base64)})
	}
	return writeJSON(w, body)
}

// encodeVector writes a vector as JSON: an array of numbers, or a string of the
// base64 of its little-endian float32s.
func encodeVector(v []float32, asBase64 bool) []byte {
	if asBase64 {
		raw := make([]byte, 0, 4*len(v))
		for _, f := range v {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
		}
		return appendString(nil, base64.StdEncoding.EncodeToString(raw))
	}
	b := []byte{'['}
	for i, f := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFloat(b, f)
	}
	return append(b, ']')
}
