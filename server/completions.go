package server

import (
	"bytes"
	"math"
	"net/http"
	"slices"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/wire"
)

// completionRequest is the body of POST /v1/completions.
type completionRequest struct {
	params
	prompts []input
	echo    bool             // the prompt comes before each answer
	suffix  string           // what comes after the answer: the middle is filled in
	bestOf  int              // answers made for each prompt, of which the most probable are sent
	none    bool             // no token is wanted, only the prompt's echo
	asked   [][]engine.Token // by prompt: its tokens
}

// input is a text, or tokens that somebody else made of one.
type input struct {
	text   string
	tokens []engine.Token // nil for a text
}

// maxInputs is how many prompts or texts to embed a request may hold: OpenAI's limit.
const maxInputs = 2048

const defaultCompletionTokens = 16

var completionFields = lift(func(r *completionRequest) *params { return &r.params }, wire.Fields[completionRequest]{
	"prompt": func(r *completionRequest, v wire.Value) (e *fault.Error) {
		r.prompts, e = readInputs(v, true)
		return e
	},
	"logprobs": func(r *completionRequest, v wire.Value) *fault.Error {
		n, e := v.Integer(0, 5)
		r.logprobs, r.top = true, int(n)
		return e
	},
	"max_tokens": func(r *completionRequest, v wire.Value) *fault.Error {
		n, e := v.Integer(0, math.MaxInt32)
		// The engine draws one at least, which nobody gets.
		r.maxTokens, r.none = int(max(n, 1)), n == 0
		return e
	},
	"echo":   func(r *completionRequest, v wire.Value) (e *fault.Error) { r.echo, e = v.Bool(); return e },
	"suffix": func(r *completionRequest, v wire.Value) (e *fault.Error) { r.suffix, e = v.Text(); return e },
	"best_of": func(r *completionRequest, v wire.Value) *fault.Error {
		n, e := v.Integer(1, 20)
		r.bestOf = int(n)
		return e
	},
})

// readInputs reads a string, an array of strings, an array of tokens or an array
// of arrays of tokens.
func readInputs(v wire.Value, emptyText bool) ([]input, *fault.Error) {
	if v.Raw[0] == '"' {
		s, e := v.Text()
		if e == nil && s == "" && !emptyText {
			e = v.Invalid("the string is empty.")
		}
		return []input{{text: s}}, e
	}
	if v.Raw[0] != '[' {
		return nil, v.WrongType("a string or an array")
	}
	list, e := v.Array(math.MaxInt32)
	if e != nil {
		return nil, e
	}
	if len(list) == 0 {
		return nil, v.Empty()
	}
	if list[0].Raw[0] != '"' && list[0].Raw[0] != '[' {
		tokens, e := readTokens(list)
		return []input{{tokens: tokens}}, e
	}
	if len(list) > maxInputs {
		_, e := v.Array(maxInputs)
		return nil, e
	}
	inputs := make([]input, 0, len(list))
	for _, item := range list {
		if item.Raw[0] == '[' {
			ids, e := item.Array(math.MaxInt32)
			if e != nil {
				return nil, e
			}
			if len(ids) == 0 {
				return nil, item.Empty()
			}
			tokens, e := readTokens(ids)
			if e != nil {
				return nil, e
			}
			inputs = append(inputs, input{tokens: tokens})
			continue
		}
		s, e := item.Text()
		if e != nil {
			return nil, e
		}
		if s == "" && !emptyText {
			return nil, item.Invalid("the string is empty.")
		}
		inputs = append(inputs, input{text: s})
	}
	return inputs, nil
}

func readTokens(list []wire.Value) ([]engine.Token, *fault.Error) {
	tokens := make([]engine.Token, len(list))
	for i, v := range list {
		n, e := v.Integer(0, math.MaxInt32)
		if e != nil {
			return nil, e
		}
		tokens[i] = engine.Token(n)
	}
	return tokens, nil
}

// tokenize turns an input into tokens, of which limit are useful.
func (in input) tokenize(e pool.Engine, limit int) ([]engine.Token, error) {
	if in.tokens != nil {
		return in.tokens, nil
	}
	return e.Tokenize(in.text, true, limit)
}

// completions answers POST /v1/completions.
func (s *Server) completions(w http.ResponseWriter, r *http.Request) *fault.Error {
	req := completionRequest{params: defaultParams()}
	req.maxTokens = defaultCompletionTokens
	if e := decode(r, &req, completionFields, "model", "prompt"); e != nil {
		return e
	}
	if e := req.check(); e != nil {
		return e
	}
	model, e := s.worker(r, req.model, req.tier)
	if e != nil {
		return e
	}
	defer model.Release()
	streams, err := req.generate(r, model)
	defer closeAll(streams)
	if err != nil {
		return toFault(err, "prompt")
	}
	a := s.newAnswer("cmpl-", model, &req.params)
	if !req.stream {
		return s.completeCompletions(w, r, a, &req, streams)
	}
	out := s.newSSE(w, r)
	defer out.close()
	streamCompletions(out, a, &req, streams)
	return nil
}

// check holds what no single field can know.
func (r *completionRequest) check() *fault.Error {
	switch {
	case r.echo && r.suffix != "":
		return fault.New(fault.InvalidValue, "echo", "The 'echo' parameter cannot be used with 'suffix'.")
	case r.bestOf > 0 && r.bestOf < r.choices:
		return fault.New(fault.InvalidValue, "best_of", "Invalid 'best_of': it must be at least 'n', which is %d.", r.choices)
	case r.bestOf > r.choices && r.stream:
		return fault.New(fault.InvalidValue, "best_of", "The 'best_of' parameter cannot be used with 'stream': the best is known at the end.")
	}
	return r.params.check()
}

// prompt returns a prompt's tokens; with a suffix, all that the model needs to
// fill in what is between them.
func (r *completionRequest) prompt(e pool.Engine, in input) ([]engine.Token, error) {
	limit := e.Limits().Context - 1
	if r.suffix == "" {
		return in.tokenize(e, limit)
	}
	m := e.Model().Marks
	if m.FIMPrefix < 0 || m.FIMSuffix < 0 || m.FIMMiddle < 0 {
		return nil, fault.New(fault.Unsupported, "suffix", "Unsupported parameter: 'suffix'. The model was not made for filling in the middle.")
	}
	before := in.tokens
	if before == nil {
		var err error
		if before, err = e.Tokenize(in.text, false, limit); err != nil {
			return nil, err
		}
	}
	after, err := e.Tokenize(r.suffix, false, limit)
	if err != nil {
		return nil, err
	}
	var begin []engine.Token
	if m.AddBOS && m.BOS >= 0 {
		begin = []engine.Token{m.BOS}
	}
	return slices.Concat(begin, []engine.Token{m.FIMPrefix}, before, []engine.Token{m.FIMSuffix}, after, []engine.Token{m.FIMMiddle}), nil
}

// echoed is the text that comes before the answers to a prompt.
func (r *completionRequest) echoed(index int, m *pool.Lease) string {
	if !r.echo {
		return ""
	}
	in := r.prompts[index]
	if in.tokens == nil {
		return in.text
	}
	return prompt.Text(m.Engine.Model(), in.tokens)
}

// echoedTokens is the tokens that come before the answers to a prompt, whose
// log-probabilities but for the first's are given. A mark that the model wants before
// every text is no part of what was asked, nor the space that SentencePiece begins with.
func (r *completionRequest) echoedTokens(m *pool.Lease, index int, scored []engine.TokenInfo) []engine.TokenInfo {
	if !r.echo || !r.logprobs {
		return nil
	}
	in, first := r.prompts[index], r.asked[index][0]
	tokens := slices.Clone(scored)
	if in.tokens != nil || first != m.Engine.Model().Marks.BOS {
		tokens = slices.Insert(tokens, 0, engine.TokenInfo{TokenLogProb: engine.TokenLogProb{Token: first}, Bytes: prompt.Piece(m.Engine.Model(), first)})
	}
	if len(tokens) == 0 {
		return nil
	}
	tokens[0].LogProb = noLogProb
	if in.tokens == nil && !strings.HasPrefix(in.text, " ") {
		tokens[0].Bytes = bytes.TrimPrefix(tokens[0].Bytes, []byte(" "))
	}
	return tokens
}

// noLogProb is that of a prompt's first token: there is nothing for it to follow.
const noLogProb = 1

// drop takes the text out of an answer of which none is wanted.
func (r *completionRequest) drop(e *engine.Event) {
	if !r.none {
		return
	}
	e.Text, e.Tokens = "", nil
	if e.Finish != "" {
		e.Finish = engine.FinishLength
	}
}

// usage is what a prompt's answer cost.
func (r *completionRequest) usage(stream *engine.Stream) engine.Usage {
	u := stream.Usage()
	if r.none {
		u.Completion = 0
	}
	return u
}

// generate asks for every prompt's answer. The streams it returns with an error
// are those that were begun.
func (r *completionRequest) generate(hr *http.Request, model *pool.Lease) ([]*engine.Stream, error) {
	requests := make([]engine.Request, len(r.prompts))
	for i, in := range r.prompts {
		tokens, err := r.prompt(model.Engine, in)
		if err != nil {
			return nil, err
		}
		requests[i] = r.request()
		requests[i].Prompt, requests[i].Score = tokens, r.echo && r.logprobs
		r.asked = append(r.asked, tokens)
		if r.bestOf > r.choices {
			requests[i].Choices, requests[i].LogProbs = r.bestOf, true
		}
	}
	var streams []*engine.Stream
	for i, er := range requests {
		if i > 0 {
			er.Beside = streams[0]
		}
		stream, err := generate(hr.Context(), model, er)
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
