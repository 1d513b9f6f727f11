package openai

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

const completionObject = "text_completion"

// completionEncoder encodes the answers to several prompts, which are generated concurrently. The
// index of choice i of prompt p is p*n+i.
type completionEncoder struct {
	chunks
	request *completionRequest
	prompts []completionPrompt
}

// completionPrompt is the state of the answer to one prompt.
type completionPrompt struct {
	index   int
	echo    string // the text before each choice
	offsets []int  // by choice: the text_offset of the next token
	scores  int    // number of log-probabilities that the echo is still waiting for
	scored  []engine.TokenInfo
	early   []engine.Event // of other choices, until then
}

func newCompletionEncoder(a *answer, req *completionRequest) *completionEncoder {
	c := &completionEncoder{chunks: newChunks(a, completionObject), request: req}
	for i := range req.prompts {
		p := completionPrompt{
			index:   i,
			echo:    req.echoed(i, a.model),
			offsets: make([]int, a.params.choices),
		}
		if req.echo && a.params.logprobs {
			p.scores = len(req.asked[i]) - 1
		}
		c.prompts = append(c.prompts, p)
	}
	return c
}

// Begin implements dialect.Encoder. It appends the echo of prompts, unless that needs
// log-probabilities.
func (c *completionEncoder) Begin(b []byte) []byte {
	for i := range c.prompts {
		p := &c.prompts[i]
		if p.scores == 0 && (p.echo != "" || c.request.echo && c.params.logprobs) {
			b = c.appendEcho(b, p)
		}
	}
	return b
}

// appendEcho appends the prompt for each choice.
func (c *completionEncoder) appendEcho(b []byte, p *completionPrompt) []byte {
	tokens := c.request.echoedTokens(c.model, p.index, p.scored)
	for choice := range c.params.choices {
		b = c.appendText(b, p, choice, p.echo, tokens)
	}
	return b
}

// appendText appends a chunk with a text and its tokens.
func (c *completionEncoder) appendText(
	b []byte, p *completionPrompt, choice int, text string, tokens []engine.TokenInfo,
) []byte {
	b = c.open(b, p.index*c.params.choices+choice)
	b = wire.AppendString(append(b, `,"text":`...), text)
	b = append(b, `,"logprobs":`...)
	b, p.offsets[choice] = appendCompletionLogprobs(b, c.answer, tokens, p.offsets[choice])
	return c.shut(b, "")
}

// Delta implements dialect.Encoder.
func (c *completionEncoder) Delta(b []byte, stream int, e *engine.Event) []byte {
	p := &c.prompts[stream]
	if p.scores == 0 {
		return c.appendEvent(b, p, e)
	}

	// Other choices may have ended before the log-probabilities of the prompt are complete.
	p.scored = append(p.scored, e.Prompt...)
	p.early = append(p.early, *e)
	if len(p.scored) < p.scores {
		return b
	}
	p.scores = 0
	b = c.appendEcho(b, p)
	for i := range p.early {
		b = c.appendEvent(b, p, &p.early[i])
	}
	p.early = nil
	return b
}

func (c *completionEncoder) appendEvent(b []byte, p *completionPrompt, e *engine.Event) []byte {
	text, tokens, finish := c.request.wanted(e)
	if text != "" || len(tokens) > 0 {
		b = c.appendText(b, p, e.Choice, text, tokens)
	}
	if finish != "" {
		b = c.open(b, p.index*c.params.choices+e.Choice)
		b = append(b, `,"text":"","logprobs":null`...)
		b = c.shut(b, finish)
	}
	return b
}

// End implements dialect.Encoder.
func (c *completionEncoder) End(b []byte, used []engine.Usage) []byte {
	var u usage
	for _, each := range used {
		u.add(c.request.usage(each))
	}
	return c.end(b, u)
}

// appendCompletionLogprobs appends log-probabilities in the legacy format: four arrays. Offset is the
// number of characters before the first token; the offset after the last one is returned.
func appendCompletionLogprobs(b []byte, a *answer, tokens []engine.TokenInfo, offset int) ([]byte, int) {
	if !a.params.logprobs {
		return append(b, "null"...), 0
	}

	list := func(name string, each func(t *engine.TokenInfo)) {
		b = append(append(b, name...), '[')
		for i := range tokens {
			if i > 0 {
				b = append(b, ',')
			}
			each(&tokens[i])
		}
		b = append(b, ']')
	}

	list(`{"tokens":`, func(t *engine.TokenInfo) { b = wire.AppendString(b, string(t.Bytes)) })
	list(`,"token_logprobs":`, func(t *engine.TokenInfo) {
		if t.LogProb == noLogProb {
			b = append(b, "null"...)
			return
		}
		b = wire.AppendFloat(b, t.LogProb)
	})

	list(`,"top_logprobs":`, func(t *engine.TokenInfo) {
		if t.LogProb == noLogProb {
			b = append(b, "null"...)
			return
		}
		b = append(b, '{')
		// Tokens of different bytes may read the same once they are text; a JSON
		// object has room for the most probable of them.
		seen := map[string]bool{}
		for _, alt := range withItself(t) {
			text := strings.ToValidUTF8(string(a.piece(alt.Token)), "\uFFFD")
			if seen[text] {
				continue
			}
			if len(seen) > 0 {
				b = append(b, ',')
			}
			seen[text] = true
			b = wire.AppendFloat(append(wire.AppendString(b, text), ':'), alt.LogProb)
		}
		b = append(b, '}')
	})

	list(`,"text_offset":`, func(t *engine.TokenInfo) {
		b = strconv.AppendInt(b, int64(offset), 10)
		offset += utf8.RuneCount(t.Bytes)
	})

	return append(b, '}'), offset
}

// withItself returns the alternatives to a token and the token, which top_logprobs contains in any case:
// as one more, if it is not among the most probable.
func withItself(t *engine.TokenInfo) []engine.TokenLogProb {
	is := func(alt engine.TokenLogProb) bool { return alt.Token == t.Token }
	if slices.ContainsFunc(t.Alternatives, is) {
		return t.Alternatives
	}
	return append(slices.Clip(t.Alternatives), t.TokenLogProb)
}

type completionChoice struct {
	Text         string          `json:"text"`
	Index        int             `json:"index"`
	LogProbs     json.RawMessage `json:"logprobs"`
	FinishReason engine.Finish   `json:"finish_reason"`
}

// completeCompletions writes a response that is not streamed.
func completeCompletions(
	w http.ResponseWriter, r *http.Request, a *answer, req *completionRequest, reply *service.Reply,
) *fault.Error {
	body := responseBody[completionChoice]{
		ID:          a.id,
		Object:      completionObject,
		Created:     a.created,
		Model:       a.name,
		Fingerprint: a.fingerprint,
	}
	for i, stream := range reply.Streams {
		choices, err := collect(r.Context(), reply, stream, max(a.params.choices, req.bestOf))
		if err != nil {
			return service.Fault(err, "prompt")
		}
		body.Usage.add(req.usage(stream.Usage()))
		body.Choices = append(body.Choices, completionChoices(a, req, i, choices)...)
	}
	return wire.WriteJSON(w, body)
}

// completionChoices returns the choices of a prompt: the best ones of those generated.
func completionChoices(a *answer, req *completionRequest, index int, choices []*collected) []completionChoice {
	echo := req.echoed(index, a.model)
	scored := req.echoedTokens(a.model, index, choices[0].scores)
	if len(choices) > a.params.choices {
		slices.SortStableFunc(choices, func(x, y *collected) int {
			return cmp.Compare(y.probability(), x.probability())
		})
		choices = choices[:a.params.choices]
	}

	list := make([]completionChoice, len(choices))
	for i, c := range choices {
		if req.none {
			c = &collected{Collector: prompt.Collector{Finish: engine.FinishLength}}
		}
		logprobs, _ := appendCompletionLogprobs(nil, a, append(slices.Clip(scored), c.tokens...), 0)
		list[i] = completionChoice{
			Text:         echo + req.answered(c),
			Index:        index*a.params.choices + i,
			LogProbs:     logprobs,
			FinishReason: c.Finish,
		}
	}

	return list
}
