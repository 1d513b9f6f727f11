package server

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/wire"
)

// answer is what all chunks of a response, and the whole of one that is not
// streamed, have in common.
type answer struct {
	id          string
	created     int64
	model       *pool.Lease
	params      *params
	fingerprint string
}

func (s *Server) newAnswer(prefix string, m *pool.Lease, p *params) *answer {
	return &answer{id: prefix + randomID(), created: time.Now().Unix(), model: m, params: p, fingerprint: fingerprint(m)}
}

func randomID() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// usage is OpenAI's count of tokens.
type usage struct {
	PromptTokens        int               `json:"prompt_tokens"`
	CompletionTokens    int               `json:"completion_tokens"`
	TotalTokens         int               `json:"total_tokens"`
	PromptTokensDetails promptDetails     `json:"prompt_tokens_details"`
	CompletionDetails   completionDetails `json:"completion_tokens_details"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
	AudioTokens  int `json:"audio_tokens"`
}

type completionDetails struct {
	ReasoningTokens          int `json:"reasoning_tokens"`
	AudioTokens              int `json:"audio_tokens"`
	AcceptedPredictionTokens int `json:"accepted_prediction_tokens"`
	RejectedPredictionTokens int `json:"rejected_prediction_tokens"`
}

// add sums the usage of several prompts.
func (u *usage) add(e engine.Usage) {
	u.PromptTokens += e.Prompt
	u.CompletionTokens += e.Completion
	u.TotalTokens += e.Prompt + e.Completion
	u.PromptTokensDetails.CachedTokens += e.Cached
}

// chunkHead begins a chunk up to the choice's own part.
func (a *answer) chunkHead(object string) []byte {
	b := wire.BeginEvent(nil)
	b = append(b, `{"id":"`+a.id+`","object":"`+object+`","created":`...)
	b = strconv.AppendInt(b, a.created, 10)
	b = wire.AppendString(append(b, `,"model":`...), a.model.ID)
	if a.params.tierName != "" {
		b = wire.AppendString(append(b, `,"service_tier":`...), a.params.tierName)
	}
	return append(b, `,"system_fingerprint":"`+a.fingerprint+`","choices":[{"index":`...)
}

// chunkTail ends a chunk after its choice; every chunk but the last one has no usage.
func (a *answer) chunkTail() []byte {
	if a.params.includeUsage {
		return []byte("],\"usage\":null}\n\n")
	}
	return []byte("]}\n\n")
}

// usageChunk is the last chunk, which has no choice.
func (a *answer) usageChunk(object string, u usage) []byte {
	body, err := json.Marshal(struct {
		ID          string `json:"id"`
		Object      string `json:"object"`
		Created     int64  `json:"created"`
		Model       string `json:"model"`
		Fingerprint string `json:"system_fingerprint"`
		Choices     []int  `json:"choices"`
		Usage       usage  `json:"usage"`
		ServiceTier string `json:"service_tier,omitempty"`
	}{a.id, object, a.created, a.model.ID, a.fingerprint, []int{}, u, a.params.tierName})
	if err != nil {
		return nil
	}
	return wire.AppendEvent(nil, "", body)
}

type responseBody[C any] struct {
	ID          string `json:"id"`
	Object      string `json:"object"`
	Created     int64  `json:"created"`
	Model       string `json:"model"`
	Choices     []C    `json:"choices"`
	Usage       usage  `json:"usage"`
	ServiceTier string `json:"service_tier,omitempty"`
	Fingerprint string `json:"system_fingerprint"`
}

// collected is one choice's whole answer.
type collected struct {
	prompt.Reply
	tokens []engine.TokenInfo
	scores []engine.TokenInfo // of the prompt, with choice 0, if asked for
}

// add joins what came anew of the answer.
func (c *collected) add(e *engine.Event) {
	c.Add(e)
	c.tokens = append(c.tokens, e.Tokens...)
	c.scores = append(c.scores, e.Prompt...)
}

// probability is the mean log-probability of the tokens, by which best_of chooses.
func (c *collected) probability() float64 {
	var sum float64
	for _, t := range c.tokens {
		sum += float64(t.LogProb)
	}
	return sum / float64(max(1, len(c.tokens)))
}

func newCollected(n int) []*collected {
	choices := make([]*collected, n)
	for i := range choices {
		choices[i] = &collected{}
	}
	return choices
}

// collect reads the answers of n choices to their end, each event after verify has, if it is
// not nil.
func collect(r *http.Request, stream *engine.Stream, n int, verify func(*engine.Event) error) ([]*collected, error) {
	choices := newCollected(n)
	return choices, readAll(r, stream, verify, func(e *engine.Event) { choices[e.Choice].add(e) })
}

// readAll reads a stream to its end, each event after verify has, if it is not nil.
func readAll(
	r *http.Request, stream *engine.Stream, verify func(*engine.Event) error, each func(*engine.Event),
) error {
	for {
		events, err := stream.Next(r.Context())
		if err != nil || events == nil {
			return err
		}
		for i := range events {
			if verify != nil {
				if err := verify(&events[i]); err != nil {
					return err
				}
			}
			each(&events[i])
		}
	}
}

// writeJSON answers 200 with a body.
func writeJSON(w http.ResponseWriter, body any) *fault.Error {
	return writeJSONAs(w, http.StatusOK, body)
}

// writeJSONAs answers with another status.
func writeJSONAs(w http.ResponseWriter, status int, body any) *fault.Error {
	b, err := json.Marshal(body)
	if err != nil {
		return toFault(err, "")
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b)
	return nil
}

const completionObject = "text_completion"

// streamCompletions writes the chunks of several prompts' answers, which come
// side by side: choice i of prompt p has the index p*n+i.
func streamCompletions(out *sse, a *answer, req *completionRequest, streams []*engine.Stream) {
	head, tail := a.chunkHead(completionObject), a.chunkTail()
	errs := make([]error, len(streams))
	var wg sync.WaitGroup
	for p, stream := range streams {
		wg.Go(func() { errs[p] = streamCompletion(out, a, req, stream, p, head, tail) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			out.fail(err)
			return
		}
	}
	var buf []byte
	if a.params.includeUsage {
		var u usage
		for _, stream := range streams {
			u.add(req.usage(stream))
		}
		buf = a.usageChunk(completionObject, u)
	}
	_ = out.write(append(buf, sseDone...))
}

// streamCompletion writes one prompt's chunks; echo comes before each choice.
func streamCompletion(out *sse, a *answer, req *completionRequest, stream *engine.Stream, prompt int, head, tail []byte) error {
	echo := req.echoed(prompt, a.model)
	var buf []byte
	offsets := make([]int, a.params.choices)
	chunk := func(choice int, text string, logprobs func([]byte) []byte, finish engine.Finish) {
		buf = append(buf, head...)
		buf = strconv.AppendInt(buf, int64(prompt*a.params.choices+choice), 10)
		buf = wire.AppendString(append(buf, `,"text":`...), text)
		buf = logprobs(append(buf, `,"logprobs":`...))
		buf = append(appendFinish(buf, finish), tail...)
	}
	null := func(b []byte) []byte { return append(b, "null"...) }
	var scored []engine.TokenInfo
	begin := func() {
		tokens := req.echoedTokens(a.model, prompt, scored)
		for choice := range a.params.choices {
			chunk(choice, echo, func(b []byte) []byte {
				b, offsets[choice] = appendCompletionLogprobs(b, a, tokens, 0)
				return b
			}, "")
		}
	}
	scores := 0 // still to come: the echo waits for them, and all else for the echo
	if req.echo && a.params.logprobs {
		scores = len(req.asked[prompt]) - 1
	}
	if scores == 0 && (echo != "" || req.echo && a.params.logprobs) {
		begin()
		if err := out.write(buf); err != nil {
			return err
		}
	}
	var early []engine.Event // another choice may be done before the first has read all of the prompt
	return out.follow(stream, func(events []engine.Event) error {
		buf = buf[:0]
		if scores > 0 {
			for i := range events {
				scored = append(scored, events[i].Prompt...)
			}
			early = append(early, events...)
			if len(scored) < scores {
				return nil
			}
			scores = 0
			begin()
			events = early
		}
		for i := range events {
			e := &events[i]
			req.drop(e)
			if e.Text != "" || len(e.Tokens) > 0 {
				chunk(e.Choice, e.Text, func(b []byte) []byte {
					b, offsets[e.Choice] = appendCompletionLogprobs(b, a, e.Tokens, offsets[e.Choice])
					return b
				}, "")
			}
			if e.Finish != "" {
				chunk(e.Choice, "", null, e.Finish)
			}
		}
		return out.write(buf)
	})
}

// appendFinish ends a choice with why it ended, or null while it goes on.
func appendFinish(b []byte, finish engine.Finish) []byte {
	b = append(b, `,"finish_reason":`...)
	if finish == "" {
		return append(b, "null}"...)
	}
	return append(append(append(b, '"'), finish...), `"}`...)
}

// appendCompletionLogprobs appends the legacy shape: four arrays. Offset counts
// the characters of the text before the first token; the one after the last is
// returned.
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
		for _, alt := range t.Alternatives {
			text := strings.ToValidUTF8(string(prompt.Piece(a.model.Engine.Model(), alt.Token)), "\uFFFD")
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

type completionChoice struct {
	Text         string          `json:"text"`
	Index        int             `json:"index"`
	LogProbs     json.RawMessage `json:"logprobs"`
	FinishReason engine.Finish   `json:"finish_reason"`
}

func (s *Server) completeCompletions(w http.ResponseWriter, r *http.Request, a *answer, req *completionRequest, streams []*engine.Stream) *fault.Error {
	body := responseBody[completionChoice]{ID: a.id, Object: completionObject, Created: a.created, Model: a.model.ID, Fingerprint: a.fingerprint}
	for p, stream := range streams {
		choices, err := collect(r, stream, max(a.params.choices, req.bestOf), nil)
		if err != nil {
			return toFault(err, "prompt")
		}
		body.Usage.add(req.usage(stream))
		echo := req.echoed(p, a.model)
		scored := req.echoedTokens(a.model, p, choices[0].scores)
		if len(choices) > a.params.choices {
			slices.SortStableFunc(choices, func(x, y *collected) int { return cmp.Compare(y.probability(), x.probability()) })
			choices = choices[:a.params.choices]
		}
		for i, c := range choices {
			if req.none {
				*c = collected{Reply: prompt.Reply{Finish: engine.FinishLength}}
			}
			logprobs, _ := appendCompletionLogprobs(nil, a, append(slices.Clip(scored), c.tokens...), 0)
			body.Choices = append(body.Choices, completionChoice{
				Text: echo + c.Text(), Index: p*a.params.choices + i, LogProbs: logprobs, FinishReason: c.Finish,
			})
		}
	}
	return writeJSON(w, body)
}
