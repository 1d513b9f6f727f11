package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Token is an index into a model's vocabulary.
type Token = int32

// A Text reads and writes text for a model: it has the vocabulary and the chat template, but no weights and no
// cells. What clients send meets C++ here first. Any goroutine may use it at any time. What a call is given may take
// too much time or memory, or crash whatever computes it: the call then fails with ErrTooComplex. A call ends early
// when its ctx is done.
type Text interface {
	// Tokenize splits text into tokens.
	Tokenize(ctx context.Context, text string, how Reading) ([]Token, error)

	Render(context.Context, Chat) (*Rendered, error)

	// Parser returns a parser for one answer to a rendered chat, which uses ctx as long as it lives. The caller
	// must Close it.
	Parser(ctx context.Context, spec string) (Parser, error)

	// Check fails as a Runner's NewSampler would.
	Check(context.Context, Sampling) error
}

// A Runner is what the batching loop needs of a model. Step, CopyKV, RemoveKV, Save, Restore, Discard, Prepare and
// Embed are called by the loop's goroutine alone; the others by any goroutine, at any
// time between the Runner's making and its Close.
type Runner interface {
	Model() *ModelInfo
	// Limits stay, but that an engine which is restarted for want of memory may have fewer Cells, and those Shared.
	Limits() Limits

	// EncodeImage returns what the model reads in place of an image; one image at a time.
	// The media have no IDs yet. It fails with a LengthError, before it computes anything, when
	// that is more than limit tokens.
	EncodeImage(img *Bitmap, limit int) ([]Chunk, error)
	NewSampler(Sampling) (Sampler, error)

	// Step computes a batch and then draws the next token of every row, of one sequence in the order of its rows. A row
	// that fails alone carries its own error. Where a row is refused (Row.Draft), its sequence loses the cells from
	// Row.Index on. The step fails with ErrNoSlot (nothing
	// changed), ErrRestarted, ErrCrashed or ErrFaulted (all cells are gone, and Limits may say that there are fewer), or
	// with ErrAborted, ErrInvalidBatch or ErrFatal, which leave the cells in an unknown state.
	Step(*Batch, []Row) error
	// RemoveKV drops a sequence's cells from position from on. It reports false
	// when the model cannot do that for a part of a sequence, and has then changed nothing.
	RemoveKV(seq int, from int) bool
	// CopyKV makes dst hold what src holds, and nothing else.
	CopyKV(src, dst int)
	// Save writes a sequence's cells to a region of the memory for saved sequences, which outlives the cells. It returns
	// where they are; if they take more bytes than the region has, it has written nothing.
	Save(seq int, to Region) (Saved, error)
	// Restore makes a sequence that has no cells hold what Save wrote. If it fails, nobody knows what the sequence has,
	// or, with ErrRestarted or ErrCrashed, all cells are gone.
	Restore(seq int, from Saved) error
	// Discard drops what a region has, and gives its memory back to the system, but for what lies in kept, which is about
	// to be written.
	Discard(region, kept Region)
	// Prepare has a region ready to be written, while other calls go on. Memory that was never written, or was given
	// back, takes ten times as long to write as other memory.
	Prepare(Region)
	// Embed returns a vector for each input, of at most Limits().EmbedTokens tokens in
	// all. Suspect says that they may have crashed the engine: nothing else may run. It fails with
	// ErrRestarted, ErrCrashed or ErrFaulted, too.
	Embed(inputs [][]Token, suspect bool) ([][]float32, error)

	// Abort makes the Step under way, and any later one, return ErrAborted.
	Abort()
	// Close frees the model. Nothing may be called afterwards.
	Close()
}

// A Sampler holds one choice's sampling state: random numbers, penalties, grammar.
// It is used by one goroutine at a time.
type Sampler interface{ Close() }

// A Parser parses one answer as it grows. It is used by one goroutine at a time.
type Parser interface {
	// Append takes what the answer goes on with, and returns what is new of the parsed
	// answer. Text that may yet turn out to be markup is held back until last, which
	// nothing may follow. What was returned is never taken back. An error means that
	// nothing is new; the text still counts, unless it was the last.
	Append(text string, last bool) (Delta, error)
	// Close frees the parser.
	Close()
}

// Delta is what is new of a parsed answer.
type Delta struct {
	Content   string          `json:"content"`
	Reasoning string          `json:"reasoning"`
	ToolCalls []ToolCallDelta `json:"tool_calls"`
}

// Errors of Runner.Step.
var (
	ErrNoSlot       = errors.New("no KV cells for the batch")
	ErrRestarted    = errors.New("the engine was restarted")
	ErrCrashed      = errors.New("the engine crashed, possibly because of this request, and was restarted")
	ErrAborted      = errors.New("decode aborted")
	ErrInvalidBatch = errors.New("invalid batch")
	ErrFatal        = errors.New("engine failed")
)

// ErrExhausted is an ErrRestarted: the engine crashed because its device had no memory left. No request is to blame.
var ErrExhausted = fmt.Errorf("%w: its device had no memory left", ErrRestarted)

// ErrFaulted is an ErrCrashed after which the device is suspected, too: a request that was alone is to blame only if
// the next engine can compute a probe step.
var ErrFaulted = fmt.Errorf("%w: its device had a fault", ErrCrashed)

// ErrTooComplex is an ErrRequest: reading what a client sent took too much time or memory, or crashed the reader.
var ErrTooComplex = fmt.Errorf("%w: too complex", ErrRequest)

// Marks are the tokens that a model puts around texts; one that it has not is
// negative.
type Marks struct {
	BOS, EOS, Separator             Token
	AddBOS, AddEOS, AddSeparator    bool
	FIMPrefix, FIMSuffix, FIMMiddle Token // for filling in the middle
}

// ModelInfo describes a loaded model.
type ModelInfo struct {
	Name          string // general.name of the file, may be empty
	Architecture  string
	Quantization  string
	Size          uint64 // bytes of all tensors
	Parameters    uint64
	TrainContext  int    // tokens the model was trained for
	EmbeddingSize int    // floats in an embedding
	InputSize     int    // floats in an embedding that it reads in place of a token
	Vision        bool   // reads images
	Generates     bool   // false for an encoder, which only embeds
	Ranks         bool   // its Embed gives a classifier's scores, not embeddings
	Classes       int    // scores that a model that ranks gives
	RankTemplate  string // how such a model wants {query} and {document}, empty for one after the other
	ChatTemplate  string // Jinja; empty when the file has none and ChatML is used
	Build         string // of the engine
	Marks         Marks

	// Pieces holds each token's bytes, as plain text: control tokens are empty.
	Pieces [][]byte
	// Special holds the bytes of control tokens too.
	Special [][]byte
	// EndsGeneration marks the tokens after which the model has nothing to say.
	EndsGeneration []bool
}

// Split is a text and its tokens.
type Split struct {
	Text   string
	Tokens []Token
}

// Limits are the sizes a Runner was made with.
type Limits struct {
	Sequences int  // sequences that can be in a batch
	Context   int  // tokens a sequence can hold
	Cells     int  // KV cells in all; Sequences*Context unless they share
	Shared    bool // cells of one buffer are shared by all sequences
	Batch     int  // tokens a batch can hold
	Rows      int  // rows a step can have; 0 for Sequences
	RollsBack bool // whether a part of a sequence can be removed
	Saves     bool // whether sequences can be saved and restored
	// SavesWhole says that a sequence which was restored cannot go back to before where it ended then: it has only those
	// cells that what follows looks at.
	SavesWhole bool
	// Reproducible says that what a Batch computes of a sequence has the same bits whatever else it computes, if it asks
	// for that: so an answer is the same in any crowd, after any loss of cells, and in another process like this one.
	Reproducible bool
	EmbedTokens  int // tokens an Embed call takes in all, so also the longest input
	EmbedInputs  int // inputs an Embed call takes
}

// Batch is the input of one decode step, a struct of arrays of equal length.
// Rows of one sequence follow each other in order of position. It holds tokens, or
// the embeddings of media, never both.
type Batch struct {
	Tokens    []Token
	Positions []int32
	Sequences []int32
	Outputs   []int8 // 1 where a row of logits is wanted

	Embeddings []float32 // in place of the tokens, Model.InputSize for each
	Grid       []int32   // nil, or the second, third and fourth coordinate of each position
	Whole      bool      // each embedding sees all the others

	Suspect bool // of one sequence, which may have crashed the engine: nothing else may run

	// Reproducible asks for the same bits whatever else is computed; see Limits. All its sequences have only cells that
	// were computed so.
	Reproducible bool
}

// Len returns the number of tokens, or of embeddings.
func (b *Batch) Len() int { return len(b.Positions) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Tokens = b.Tokens[:0]
	b.Positions = b.Positions[:0]
	b.Sequences = b.Sequences[:0]
	b.Outputs = b.Outputs[:0]
	b.Embeddings = nil
	b.Grid = nil
	b.Whole = false
	b.Suspect = false
	b.Reproducible = false
}

// Add appends a token at a position of a sequence.
func (b *Batch) Add(t Token, pos, seq int, output bool) {
	b.Tokens = append(b.Tokens, t)
	b.Positions = append(b.Positions, int32(pos))
	b.Sequences = append(b.Sequences, int32(seq))
	o := int8(0)
	if output {
		o = 1
	}
	b.Outputs = append(b.Outputs, o)
}

// AddEmbeddings fills an empty batch with n embeddings of media, from the one at from on. Pos
// is the position of its first.
func (b *Batch) AddEmbeddings(m *Media, from, n, pos, seq int) {
	width := len(m.Embeddings) / m.Len
	b.Embeddings = m.Embeddings[from*width : (from+n)*width]
	b.Whole = m.Whole
	for i := from; i < from+n; i++ {
		at := pos + i
		if m.Grid != nil {
			at = pos + int(m.Grid[i])
		}
		b.Positions = append(b.Positions, int32(at))
		b.Sequences = append(b.Sequences, int32(seq))
		b.Outputs = append(b.Outputs, 0)
	}
	if m.Grid == nil {
		return
	}
	for axis := 1; axis < 4; axis++ {
		for i := from; i < from+n; i++ {
			b.Grid = append(b.Grid, int32(pos)+m.Grid[axis*m.Len+i])
		}
	}
}

// Row is one token to sample, or without a Sampler one whose probability is asked for.
type Row struct {
	Sampler Sampler
	Index   int // of the batch entry whose logits it is drawn from
	Top     int // alternatives wanted; negative for no log-probabilities

	// Draft says that the batch's token at Index is a guess of what the row before draws, which has the same Sampler and
	// the Index before. If that row draws another one, fails or is refused, this one is refused: it draws nothing.
	Draft   bool
	Refused bool

	Token        Token
	LogProb      float32
	Alternatives []TokenLogProb // cap is reused
	OnBackend    bool           // drawn on the device that computed the logits
	Err          error
}

func (r *Row) sampledOn() SampledOn {
	if r.OnBackend {
		return SampledOnBackend
	}
	return SampledOnHost
}

// TokenLogProb is a token and the natural logarithm of its probability.
type TokenLogProb struct {
	Token   Token
	LogProb float32
}

// Grammar constrains what is generated; the zero value constrains nothing.
type Grammar struct {
	Text             string // GBNF
	Lazy             bool   // holds only from a trigger on
	Triggers         []Trigger
	FromChat         bool   // derived by Render, so that GenerationPrompt is read first
	GenerationPrompt string // what the template already wrote of the answer
}

// TriggerWord is the kind of a Trigger that is a word in the text.
const TriggerWord = 1

// Trigger is where a lazy grammar begins: llama.cpp's own kinds.
type Trigger struct {
	Kind  int32  `json:"type"`
	Value string `json:"value"`
	Token Token  `json:"token"`
}

// Chat is a conversation to render by the model's own template. Messages and
// Tools are JSON in OpenAI's shape.
type Chat struct {
	Messages          json.RawMessage
	Tools             json.RawMessage `json:",omitempty"` // nil for none
	ToolChoice        string          // auto, required or none
	ParallelToolCalls bool            // more than one call allowed
	Schema            string          // JSON schema of the answer, empty for none
	Continue          bool            // the last message is the answer's beginning
	NoThinking        bool            // ask the template to leave thinking out
	Split             bool            `json:",omitempty"` // see Rendered.Split
	// Written is what the answer begins with, after the template's own.
	Written      string                     `json:",omitempty"`
	TemplateArgs map[string]json.RawMessage // more arguments for the template
}

// Rendered is a chat as the model reads it, and how to read what it answers.
type Rendered struct {
	Prompt    string
	Quoted    []Range // of the prompt: all that is not the template's own text; see Reading
	Grammar   Grammar
	Stops     []string
	Preserved []string // control tokens that the parser must see
	Parser    string   // for Text.Parser; empty when the text is the content

	// Split is the prompt as tokens, if the Chat asks for them and the Text has them ready; nil otherwise. It saves a
	// call, which costs more than splitting a short prompt.
	Split *Split `json:"-"`

	Format func(Parser) Parser `json:"-"` // see Request.Format; a Runner sets none
}
