package server

import (
	"math"
	"net/http"

	"serve/engine"
)

// completionRequest is the body of POST /v1/completions.
type completionRequest struct {
	params
	prompts      []input
	hasStreamOpt bool
}

// input is a text, or tokens that somebody else made of one.
type input struct {
	text   string
	tokens []engine.Token // nil for a text
}

// maxInputs is how many prompts or texts to embed a request may hold: OpenAI's limit.
const maxInputs = 2048

const defaultCompletionTokens = 16

var completionFields = lift(func(r *completionRequest) *params { return &r.params }, fields[completionRequest]{
	"prompt": func(r *completionRequest, v value) (e *Error) { r.prompts, e = readInputs(v, true); return e },
	"logprobs": func(r *completionRequest, v value) *Error {
		n, e := v.integer(0, 5)
		r.logprobs, r.top = true, int(n)
		return e
	},
	"stream_options": func(r *completionRequest, v value) *Error {
		r.hasStreamOpt = true
		return setStreamOptions(&r.params, v)
	},
	"echo":    refused[completionRequest]("The prompt cannot be echoed yet.", "false"),
	"suffix":  refused[completionRequest]("Filling in the middle is not supported yet.", `""`),
	"best_of": refused[completionRequest]("Only 1 is supported yet.", "1"),
})

// readInputs reads a string, an array of strings, an array of tokens or an array
// of arrays of tokens.
func readInputs(v value, emptyText bool) ([]input, *Error) {
	if v.raw[0] == '"' {
		s, e := v.string()
		if e == nil && s == "" && !emptyText {
			e = v.invalid("the string is empty.")
		}
		return []input{{text: s}}, e
	}
	if v.raw[0] != '[' {
		return nil, v.wrongType("a string or an array")
	}
	list, e := v.array(math.MaxInt32)
	if e != nil {
		return nil, e
	}
	if len(list) == 0 {
		return nil, v.empty()
	}
	if list[0].raw[0] != '"' && list[0].raw[0] != '[' {
		tokens, e := readTokens(list)
		return []input{{tokens: tokens}}, e
	}
	if len(list) > maxInputs {
		_, e := v.array(maxInputs)
		return nil, e
	}
	inputs := make([]input, 0, len(list))
	for _, item := range list {
		if item.raw[0] == '[' {
			ids, e := item.array(math.MaxInt32)
			if e != nil {
				return nil, e
			}
			if len(ids) == 0 {
				return nil, item.empty()
			}
			tokens, e := readTokens(ids)
			if e != nil {
				return nil, e
			}
			inputs = append(inputs, input{tokens: tokens})
			continue
		}
		s, e := item.string()
		if e != nil {
			return nil, e
		}
		if s == "" && !emptyText {
			return nil, item.invalid("the string is empty.")
		}
		inputs = append(inputs, input{text: s})
	}
	return inputs, nil
}

func readTokens(list []value) ([]engine.Token, *Error) {
	tokens := make([]engine.Token, len(list))
	for i, v := range list {
		n, e := v.integer(0, math.MaxInt32)
		if e != nil {
			return nil, e
		}
		tokens[i] = engine.Token(n)
	}
	return tokens, nil
}

// tokenize turns an input into tokens, of which limit are useful.
func (in input) tokenize(e Engine, limit int) ([]engine.Token, error) {
	if in.tokens != nil {
		return in.tokens, nil
	}
	return e.Tokenize(in.text, true, limit)
}

// completions answers POST /v1/completions.
func (s *Server) completions(w http.ResponseWriter, r *http.Request) *Error {
	req := completionRequest{params: defaultParams()}
	req.maxTokens = defaultCompletionTokens
	if e := decode(r, &req, completionFields, "model", "prompt"); e != nil {
		return e
	}
	if e := req.check(req.hasStreamOpt); e != nil {
		return e
	}
	model, e := s.model(r, req.model)
	if e != nil {
		return e
	}
	defer model.release()
	streams, err := req.generate(r, model.Engine)
	defer closeAll(streams)
	if err != nil {
		return toError(err, "prompt")
	}
	a := s.newAnswer("cmpl-", model, &req.params)
	if !req.stream {
		return s.completeCompletions(w, r, a, streams)
	}
	out := s.newSSE(w, r)
	defer out.close()
	streamCompletions(out, a, streams)
	return nil
}

// generate asks for every prompt's answer. The streams it returns with an error
// are those that were begun.
func (r *completionRequest) generate(hr *http.Request, e Engine) ([]*engine.Stream, error) {
	requests := make([]engine.Request, len(r.prompts))
	for i, in := range r.prompts {
		tokens, err := in.tokenize(e, e.Limits().Context-1)
		if err != nil {
			return nil, err
		}
		requests[i] = r.request()
		requests[i].Prompt = tokens
	}
	var streams []*engine.Stream
	for _, er := range requests {
		stream, err := e.Generate(hr.Context(), er)
		if err != nil {
			return streams, err
		}
		streams = append(streams, stream)
	}
	return streams, nil
}

func closeAll(streams []*engine.Stream) {
	for _, s := range streams {
		s.Close()
	}
}
