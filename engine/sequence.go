package engine

import (
	"time"
)

// sequence is one choice of a request on its way: in the queue, or in a slot.
type sequence struct {
	ticket[*sequence]
	req       *request
	index     int     // of the choice
	tokens    []Token // prompt, then what was generated
	prompt    int     // length of the prompt
	slot      int     // sequence number of the KV cells; -1 in the queue
	fed       int     // tokens whose cells are computed
	floor     int     // tokens below which the model cannot go back, since the sequence was restored
	cached    int     // prompt tokens that were not computed, -1 before the first admission
	sampler   Sampler
	drafter   *drafter // nil if nothing is guessed
	surplus   int      // cells after those of fed, of guesses that were right and whose tokens have yet to be taken
	text      answerText
	waiting   []TokenInfo // tokens with log-probabilities whose text is held back
	toScore   int         // prompt tokens whose log-probability is still wanted: the last so many
	begun     bool        // has had a place in the batch
	reuse     Reuse       // what it found when it was first admitted
	suspect   bool        // the engine crashed when it was in the batch
	preempted int         // times that its cells were taken
	last      time.Time   // when its last token was drawn
	ended     bool
	looked    bool   // for its beginning in the folder
	fetch     *fetch // of its beginning from there; nil for none
}

// scoring reports whether the sequence must compute its prompt from the start, and
// have the logits of every token of it.
func (q *sequence) scoring() bool { return q.toScore > 0 }

// pending returns how many tokens must be computed before the next can be drawn.
func (q *sequence) pending() int { return len(q.tokens) - q.fed }

// shares returns how many tokens the sequence begins with that are another's, too: none if that has another scope.
func (q *sequence) shares(tokens []Token, within scope) int {
	if within != q.req.scope() {
		return 0
	}
	return Common(q.tokens, tokens)
}

// decoding reports whether the sequence only needs its last token computed.
func (q *sequence) decoding() bool { return q.pending() == 1 && q.slot >= 0 }

// next returns the media whose embeddings come next, or nil and how many tokens come
// before any.
func (q *sequence) next() (media *span, tokens int) {
	for i := range q.req.spans {
		switch s := &q.req.spans[i]; {
		case q.fed < s.at:
			return nil, s.at - q.fed
		case q.fed < s.at+s.Len:
			return s, 0
		}
	}
	return nil, q.pending()
}

// ahead returns how many tokens come before any media.
func (q *sequence) ahead() int {
	_, tokens := q.next()
	return tokens
}

// looking reports whether embeddings of media come next.
func (q *sequence) looking() bool {
	media, _ := q.next()
	return media != nil
}

// slot is one sequence of the KV cache: it belongs to a running sequence, or it
// keeps what one left behind, for a prompt that begins alike.
type slot struct {
	owner *sequence
	kept  []Token // without an owner
	spans []span  // where media lie among those
	scope scope   // of the request that those are of
	used  uint64  // when it lost its last owner, in steps
	floor int     // as sequence.floor
	tried bool    // it was saved, or is not worth it
}

// tokens returns those whose cells the slot holds.
func (s *slot) tokens() []Token {
	if s.owner != nil {
		return s.owner.tokens[:s.owner.fed]
	}
	return s.kept
}

// within returns the scope of the request whose cells the slot holds.
func (s *slot) within() scope {
	if s.owner != nil {
		return s.owner.req.scope()
	}
	return s.scope
}

// lowest returns the number of tokens below which the model cannot go back.
func (s *slot) lowest() int {
	if s.owner != nil {
		return s.owner.floor
	}
	return s.floor
}

// media returns those among the slot's tokens.
func (s *slot) media() []span {
	if s.owner != nil {
		return s.owner.req.spans
	}
	return s.spans
}
