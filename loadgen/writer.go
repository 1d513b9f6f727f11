package loadgen

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
)

// vocabulary has words that are single tokens in most vocabularies.
var vocabulary = strings.Fields(`time year people way day man thing woman life child world school state family student
group country problem hand part place case week company system program question work government number night point
home water room mother area money story fact month lot right study book eye job word business issue side kind head
house service friend father power hour game line end member law car city community name president team minute idea
kid body information back parent face others level office door health person art war history party result change
morning reason research girl guy moment air teacher force education`)

// Writer generates prompts of a given number of tokens. Client.Calibrate returns one.
type Writer struct {
	seed     uint64
	perWord  float64 // tokens
	overhead float64 // tokens of an empty prompt: the chat's template
}

// Calibrate finds out, with two short requests, how many tokens a word has, and how many are added to a prompt. The
// call has the model, the kind of request and its fields. The same seed gives the same prompts.
func (c *Client) Calibrate(ctx context.Context, q Call, seed uint64) (*Writer, error) {
	w := &Writer{seed: seed, perWord: 1}
	ask := func(words int) (Answer, error) {
		q.Prompt = w.text(&Request{Prompt: words}, -words)
		q.Tokens = 2
		return c.Ask(ctx, q)
	}

	few, err := ask(20)
	if err != nil {
		return nil, err
	}
	many, err := ask(120)
	if err != nil {
		return nil, err
	}
	if few.Prompt == 0 || many.Prompt <= few.Prompt {
		return nil, errors.New("the server does not report the number of prompt tokens (usage)")
	}

	w.perWord = float64(many.Prompt-few.Prompt) / 100
	w.overhead = float64(few.Prompt) - 20*w.perWord
	return w, nil
}

// Text returns words of about so many tokens, without those that a prompt adds. Each id has other words.
func (w *Writer) Text(tokens, id int) string {
	return w.text(&Request{Prompt: tokens + int(w.overhead)}, id)
}

// text returns a prompt of about q.Prompt tokens. After the shared prefix, that of request i
// differs from all others.
func (w *Writer) text(q *Request, i int) string {
	var b strings.Builder
	written := 0.0
	words := func(r *rand.Rand, until float64) {
		for written+w.perWord <= until || b.Len() == 0 {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(vocabulary[r.IntN(len(vocabulary))])
			written += w.perWord
		}
	}
	shared := 0
	for _, p := range q.Prefix {
		shared += p.tokens
		words(rand.New(rand.NewPCG(w.seed, 1<<32+uint64(p.id))), float64(shared)-w.overhead)
	}
	words(rand.New(rand.NewPCG(w.seed, 1<<33+uint64(i))), float64(q.Prompt)-w.overhead)
	return b.String()
}
