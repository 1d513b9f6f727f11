package engine

// DraftKind is where drafts come from.
type DraftKind string

// The kinds of drafts: what has followed the same tokens earlier in the same sequence, and what the request predicts.
const (
	DraftNgram      DraftKind = "ngram"
	DraftPrediction DraftKind = "prediction"
)

// DraftKinds are all kinds of drafts.
var DraftKinds = []DraftKind{DraftNgram, DraftPrediction}

// mostDrafts is how many tokens of a sequence are drafted for a step at most.
const mostDrafts = 15

// opening is what the beginning of a prediction counts for, where the answer has yet to agree with any of it.
const opening = 9

// drafter guesses what a sequence goes on with, from its own tokens and from its request's prediction alone: nothing of
// it is another's. It is right or wrong about each token that is drawn, whether its guess was in a step or not, so that
// it knows at no cost how good its guesses are.
type drafter struct {
	own ngrams // of the sequence

	prediction []Token
	predicted  ngrams
	at         int // place in the prediction of the token that comes if the answer goes on as it does; negative for none
	lost       int // where it was when the answer went on otherwise
	follows    int // tokens before at that the answer has, too
	seen       int // tokens of the sequence that the above takes into account
	agreed     int // tokens of the answer that the prediction had next

	ends []bool // tokens after which nothing comes

	// The guess for the next tokens.
	draft []Token
	kind  DraftKind
	class int // of the match
	from  int // tokens of the sequence when it was made
	taken int // how many of it are in the step
	real  int // how many of it are guesses; what comes after them only fills the step

	record [2][classes]record // of each kind's guesses by class
}

// classes is how many classes of matches there are: a longer match is a better guess.
const classes = 4

func classOf(match int) int {
	switch {
	case match < 5:
		return 0
	case match < 9:
		return 1
	case match < 17:
		return 2
	}
	return 3
}

// expected is the part of the tokens that are expected to be right before any has been seen, and counts for as many as
// expectedWeight. It is low where a wrong guess is likely: guesses are compared with what comes in any case.
var expected = [classes]float64{0.3, 0.5, 0.7, 0.8}

const (
	expectedWeight = 3

	// remembered is how many tokens a record is of: what came before them fades.
	remembered = 32
)

// record is how often guesses were right.
type record struct {
	right float64
	wrong float64
}

// add notes that so many tokens were right, and whether the one after them was wrong.
func (r *record) add(right int, wrong bool) {
	r.right += float64(right)
	if wrong {
		r.wrong++
	}
	if n := r.right + r.wrong; n > remembered {
		r.right *= remembered / n
		r.wrong *= remembered / n
	}
}

func newDrafter(prompt int, prediction []Token, ends []bool) *drafter {
	return &drafter{
		prediction: prediction,
		ends:       ends,
		at:         0,
		seen:       prompt,
	}
}

// history is the record of guesses like the present one.
func (d *drafter) history() *record {
	if d.kind == DraftPrediction {
		return &d.record[1][d.class]
	}
	return &d.record[0][d.class]
}

// chance is the probability that a token of the present guess is right if those before it are.
func (d *drafter) chance() float64 {
	r := d.history()
	return (r.right + expectedWeight*expected[d.class]) / (r.right + r.wrong + expectedWeight)
}

// judge compares the last guess with what came.
func (d *drafter) judge(tokens []Token) {
	came := tokens[min(d.from, len(tokens)):]
	guess := d.draft[:min(max(d.taken, 1), d.real)]
	if len(guess) > 0 && len(came) > 0 {
		right := Common(guess, came)
		d.history().add(right, right < min(len(guess), len(came)))
	}
	d.draft = d.draft[:0]
	d.taken = 0
	d.real = 0
}

// follow finds the place in the prediction where the answer is.
func (d *drafter) follow(tokens []Token) {
	if len(d.prediction) == 0 {
		return
	}
	for _, t := range tokens[min(d.seen, len(tokens)):] {
		switch {
		case d.at >= 0 && d.at < len(d.prediction) && d.prediction[d.at] == t:
			d.at++
			d.follows++
			d.agreed++
		case d.at >= 0:
			d.lost = d.at
			d.at = -1
			d.follows = 0
		}
	}
	d.seen = max(d.seen, len(tokens))
	if d.at >= 0 {
		return
	}

	// A word may be another, or a line have come or gone.
	d.predicted.extend(d.prediction)
	if at, match := d.predicted.find(d.prediction, tokens); match > 0 {
		d.at = at
		d.follows = match
	}
}

// agreement returns how many tokens of the prediction an answer has, which has ended.
func (d *drafter) agreement(tokens []Token) int {
	d.follow(tokens)
	return min(d.agreed, len(d.prediction))
}

// propose guesses what a sequence of these tokens goes on with. The guess is valid until the next call.
func (d *drafter) propose(tokens []Token) {
	d.judge(tokens)
	d.follow(tokens)
	d.own.extend(tokens)
	d.from = len(tokens)

	defer func() { d.real = len(d.draft) }()

	place, match := d.own.find(tokens, tokens)
	follows := d.follows
	if d.agreed == 0 && d.at == 0 {
		follows = opening
	}
	if len(d.prediction) > 0 && d.at >= 0 && d.at < len(d.prediction) && min(follows, mostMatch) >= match {
		d.kind = DraftPrediction
		d.class = classOf(follows)
		d.copy(d.prediction, d.at)
		return
	}
	if match > 0 {
		d.kind = DraftNgram
		d.class = classOf(match)
		d.copy(tokens, place)
	}
}

// take puts so many tokens into the step, where the guess has fewer with others after them that are likely to be wrong:
// sequences with buffers of their own are computed in one graph only if they have equally many.
func (d *drafter) take(n int, filler Token) {
	for len(d.draft) < n {
		d.draft = append(d.draft, filler)
	}
	d.taken = n
}

// copy takes the guess from a text. One that reaches the text's end goes on with itself, as what repeats does.
func (d *drafter) copy(text []Token, place int) {
	for i := place; len(d.draft) < mostDrafts; i++ {
		var t Token
		switch {
		case i < len(text):
			t = text[i]
		case d.kind == DraftNgram:
			t = d.draft[i-len(text)]
		default:
			return
		}
		if t < 0 || int(t) < len(d.ends) && d.ends[t] {
			return // an image, or the end
		}
		d.draft = append(d.draft, t)
	}
}
