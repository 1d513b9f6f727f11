package openai

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

var (
	_ dialect.Encoder = (*chatEncoder)(nil)
	_ dialect.Encoder = (*completionEncoder)(nil)
	_ dialect.Encoder = (*responseEncoder)(nil)
)

// answer contains what streamed and complete responses have in common.
type answer struct {
	id          string
	created     int64
	model       *pool.Lease
	name        string // of the model, as it was asked for
	params      *params
	fingerprint string
}

func newAnswer(prefix string, m *pool.Lease, p *params) *answer {
	return &answer{
		id:          prefix + wire.RandomID(),
		created:     time.Now().Unix(),
		model:       m,
		name:        p.model,
		params:      p,
		fingerprint: fingerprint(m),
	}
}

// fingerprint returns system_fingerprint, which changes with the build and with the model's file.
func fingerprint(m *pool.Lease) string {
	f := m.Engine.Model()
	sum := sha256.Sum256(fmt.Appendf(nil, "%s|%s|%s|%s|%d|%d",
		f.Build, m.ID, f.Architecture, f.Quantization, f.Size, f.Parameters))
	return "fp_" + hex.EncodeToString(sum[:5])
}

// piece returns the bytes of a token.
func (a *answer) piece(t engine.Token) []byte { return prompt.Piece(a.model.Engine.Model(), t) }

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

// chunks contains the parts that all chunks of a streamed answer have in common.
type chunks struct {
	*answer
	object string
	head   []byte // up to the choice's index
	tail   []byte // after the choice
}

const doneEvent = "data: [DONE]\n\n" // after the last chunk

func newChunks(a *answer, object string) chunks {
	head := wire.BeginEvent(nil)
	head = append(head, `{"id":"`+a.id+`","object":"`+object+`","created":`...)
	head = strconv.AppendInt(head, a.created, 10)
	head = wire.AppendString(append(head, `,"model":`...), a.name)
	if a.params.tierName != "" {
		head = wire.AppendString(append(head, `,"service_tier":`...), a.params.tierName)
	}
	head = append(head, `,"system_fingerprint":"`+a.fingerprint+`","choices":[{"index":`...)

	tail := "]}"
	if a.params.includeUsage {
		tail = `],"usage":null}`
	}
	return chunks{answer: a, object: object, head: head, tail: wire.EndEvent([]byte(tail))}
}

// ContentType implements dialect.Encoder.
func (*chunks) ContentType() string { return wire.EventStream }

// Ping implements dialect.Encoder.
func (*chunks) Ping(b []byte) []byte { return append(b, wire.Ping...) }

// Fail implements dialect.Encoder. The error is a separate event.
func (*chunks) Fail(b []byte, e *fault.Error) []byte { return wire.AppendEvent(b, "", envelope(e)) }

// open begins a chunk, up to and including the choice's index.
func (c *chunks) open(b []byte, choice int) []byte {
	return strconv.AppendInt(append(b, c.head...), int64(choice), 10)
}

// shut ends a chunk with its finish_reason, which is null except at the end of the choice.
func (c *chunks) shut(b []byte, finish engine.Finish) []byte {
	b = append(b, `,"finish_reason":`...)
	if finish == "" {
		b = append(b, "null}"...)
	} else {
		b = append(append(append(b, '"'), finish...), `"}`...)
	}
	return append(b, c.tail...)
}

// end appends the usage, if requested, and the event that ends the stream.
func (c *chunks) end(b []byte, u usage) []byte {
	if c.params.includeUsage {
		body, err := json.Marshal(struct {
			ID          string `json:"id"`
			Object      string `json:"object"`
			Created     int64  `json:"created"`
			Model       string `json:"model"`
			Fingerprint string `json:"system_fingerprint"`
			Choices     []int  `json:"choices"`
			Usage       usage  `json:"usage"`
			ServiceTier string `json:"service_tier,omitempty"`
		}{c.id, c.object, c.created, c.name, c.fingerprint, []int{}, u, c.params.tierName})
		if err == nil {
			b = wire.AppendEvent(b, "", body)
		}
	}
	return append(b, doneEvent...)
}

// collected is the complete answer of one choice.
type collected struct {
	prompt.Collector
	tokens []engine.TokenInfo
	scores []engine.TokenInfo // log-probabilities of the prompt: in choice 0, if requested
	stop   string             // the stop string that ended it, if one did
}

// add adds an event.
func (c *collected) add(e *engine.Event) {
	c.Add(e)
	c.tokens = append(c.tokens, e.Tokens...)
	c.scores = append(c.scores, e.Prompt...)
	if e.Finish != "" {
		c.stop = e.Stop
	}
}

// probability returns the mean log-probability of the tokens, which is the criterion of best_of.
func (c *collected) probability() float64 {
	var sum float64
	for _, t := range c.tokens {
		sum += float64(t.LogProb)
	}
	return sum / float64(max(1, len(c.tokens)))
}

// collect reads a stream to its end and returns the answers of its n choices.
func collect(ctx context.Context, reply *service.Reply, stream *engine.Stream, n int) ([]*collected, error) {
	choices := make([]*collected, n)
	for i := range choices {
		choices[i] = &collected{}
	}
	err := reply.Read(ctx, stream, func(e *engine.Event) { choices[e.Choice].add(e) })
	return choices, err
}
