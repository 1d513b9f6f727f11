package engine

// Reuse is what a sequence found in the KV cache when it got its place, or why it found
// nothing worth speaking of.
type Reuse string

// What was found, by the first of these that is true.
const (
	ReuseHit       Reuse = "hit"       // cells of a prompt that begins alike
	ReuseRestored  Reuse = "restored"  // such cells, in host memory: they were restored
	ReuseFolder    Reuse = "folder"    // such cells, in the folder: they were read and restored
	ReuseFailed    Reuse = "failed"    // such cells, which could not be restored
	ReuseScored    Reuse = "scored"    // they were there, but the prompt's probabilities were asked for
	ReuseFixed     Reuse = "fixed"     // they were there, but the model cannot go back to them: a recurrent one, say
	ReuseDropped   Reuse = "dropped"   // they were there once, until another prompt needed the room
	ReuseRestarted Reuse = "restarted" // they were there until the engine was restarted
	ReuseNew       Reuse = "new"       // nothing is known to have begun alike
)

// What is remembered of beginnings that were dropped: so many, and so many tokens of each.
const (
	lostPrompts = 64
	lostTokens  = 256
)

// lostPrompt is the beginning of a prompt whose cells are gone.
type lostPrompt struct {
	tokens []Token
	scope  scope
	reason Reuse
}

// lose remembers the beginning of what a slot keeps, whose cells go.
func (s *scheduler) lose(sl *slot, reason Reuse) {
	s.loseTokens(sl.kept, sl.scope, reason)
}

// loseTokens remembers the beginning of tokens whose cells are gone.
func (s *scheduler) loseTokens(tokens []Token, within scope, reason Reuse) {
	if len(tokens) == 0 {
		return
	}
	if len(s.lost) == lostPrompts {
		copy(s.lost, s.lost[1:])
		s.lost = s.lost[:lostPrompts-1]
	}
	n := min(len(tokens), lostTokens)
	s.lost = append(s.lost, lostPrompt{tokens[:n:n], within, reason})
}

// reuse says what a sequence finds, before it is put into its slot: it will keep so many
// tokens of those that are there.
func (s *scheduler) reuse(q *sequence, keep int) Reuse {
	// Half of a short prompt is worth as much as what is worth copying.
	least := max(min(s.worthCopying(), (q.prompt+1)/2), 1)
	if keep >= least {
		return ReuseHit
	}

	there := 0
	for i := range s.slots {
		there = max(there, q.shares(s.slots[i].tokens(), s.slots[i].within()))
	}

	switch {
	case there < s.worthCopying(): // what is less lies where it is
	case q.scoring():
		return ReuseScored
	case !s.limits.RollsBack:
		return ReuseFixed
	default:
		return ReuseDropped // to make room for this one
	}

	for i := len(s.lost) - 1; i >= 0; i-- {
		if q.shares(s.lost[i].tokens, s.lost[i].scope) >= least {
			return s.lost[i].reason
		}
	}

	return ReuseNew
}
