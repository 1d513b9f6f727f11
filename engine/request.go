package engine

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Caller is who asks, and in which way it is served. The zero value is everybody who gives no name.
type Caller struct {
	Client string // whose share of the engine the work takes
	Tenant string // whose cells and pictures it may share; empty for everybody's
	Tier   Tier
	// Patience is the longest time that the work may be in the queue; 0 for that of the queue.
	Patience time.Duration
	// Reproducible asks for what is the same for the same request: whatever else is computed, after the loss of its cells
	// and in another process on such a processor. An answer is, as far as its sampling is determined: it is greedy, or
	// the seed is known.
	Reproducible bool
}

// Request asks for one or more answers to a prompt. It is plain data.
type Request struct {
	Caller
	Prompt    []Token
	Media     []*Media // that the prompt's negative tokens stand for, in order
	Choices   int      // answers wanted, 1 by default; they share the prompt's KV cells
	MaxTokens int      // tokens of an answer, 0 for as many as the context has room for
	Sampling  Sampling
	Stop      []string // the answer ends before the first of these that comes after MinTokens of Sampling
	// StopTokens end the answer, which does not contain them.
	StopTokens []Token
	LogProbs   bool
	Score      bool     // log-probabilities of the prompt's tokens too, each after those before it
	Top        int      // alternatives with each log-probability
	Preserved  []string // control tokens whose text belongs to the answer
	Parser     string   // Rendered.Parser of the chat
	// Begun is text of the answer that the prompt ends with: the Parser reads it too, and it is not returned again.
	Begun string

	// Format makes a parser that reads what another one returns, the Parser's if there is one
	// and nil otherwise. It closes that one.
	Format func(Parser) Parser

	// Prediction is what the answer is expected to have in common with: it is looked up in place of computing tokens one
	// by one, and changes no answer.
	Prediction []Token

	// CacheSalt keeps the prompt apart: it shares cells of the KV cache with prompts of the same salt alone, so
	// that nobody without it can tell by the time that an answer takes what others have asked.
	CacheSalt string

	Beside *Stream // of a request that this one is a part of: it takes no place in the queue of its own
	// Together is the number of tokens of this prompt and of all that will be beside it: they are queued together, or
	// not at all. 0 stands for those of this prompt.
	Together int
}

// Finish says why an answer ended.
type Finish string

// The reasons to end: the model or a stop string did, or there was no room for more.
const (
	FinishStop   Finish = "stop"
	FinishLength Finish = "length"
)

// TokenInfo is a generated token, its bytes and its log-probability.
type TokenInfo struct {
	TokenLogProb
	Bytes        []byte // read-only
	Alternatives []TokenLogProb
}

// ToolCallDelta is what is new of a tool call. ID and Name come once, first; the
// Arguments of all together are JSON.
type ToolCallDelta struct {
	Index     int    `json:"index"`
	ID        string `json:"id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// Event is what came anew of one choice. Text may end in the middle of a UTF-8
// character only when the answer does.
type Event struct {
	Choice    int
	Text      string
	Reasoning string
	ToolCalls []ToolCallDelta
	Tokens    []TokenInfo // with Request.LogProbs
	Prompt    []TokenInfo // with Request.Score: of choice 0, before all else; the prompt's second token is first
	Finish    Finish      // set on a choice's last event
	Stop      string      // with Finish: the stop string that ended the choice; empty if none did
}

// Usage counts tokens.
type Usage struct {
	Prompt     int
	Cached     int // of Prompt, taken from KV cells of earlier requests
	Completion int
	Agreed     int // tokens of Prediction that the answers have, if it was looked at
	Disagreed  int // the others of it
}

// Errors of Generate and Embed, besides a BusyError. Each leaves nothing behind.
var (
	ErrStopped = errors.New("the engine has stopped")
	ErrCannot  = errors.New("unsupported by the model")
	ErrRequest = errors.New("invalid request")
)

// ErrNotReproducible is an ErrCannot: the model, as it was loaded, computes in an order that depends on other requests.
var ErrNotReproducible = fmt.Errorf("%w: its answers cannot be made reproducible as it is loaded", ErrCannot)

// ErrDevice says that a GPU which the model needs cannot be used. An ErrStopped is one, too, if that is why.
var ErrDevice = errors.New("unusable GPU")

// LengthError says that a prompt or an input has no room in the context.
type LengthError struct {
	Tokens  int  // it has
	Limit   int  // it may have
	AtLeast bool // it has more than Tokens, perhaps: so many bytes were not even split
}

func (e *LengthError) Error() string {
	return fmt.Sprintf("too many tokens: %s (maximum %d)", e.Count(), e.Limit)
}

// Count is the number of tokens in words.
func (e *LengthError) Count() string {
	if e.AtLeast {
		return fmt.Sprintf("at least %d", e.Tokens)
	}
	return strconv.Itoa(e.Tokens)
}

// Present is how an engine is just now.
type Present struct {
	Waiting       int     // choices and embedding inputs in the queue
	Queued        int     // requests that have a place in the queue
	WaitingTokens int     // of their prompts
	Room          int     // places in the queue that are free
	Running       int     // sequences in the batch
	Rate          float64 // tokens of answers a second, of late
	CellsUsed     int     // KV cells that running sequences hold
	CellsIdle     int     // KV cells kept for prefixes that may come again
	Cells         int     // KV cells in all
	PrefixCache   PrefixCache
	Since         time.Time // when the last step ended, or work first came after that
	Stopped       error     // why Run returned, nil while it runs
}

// PrefixCache is what host memory has of sequences that may be in no slot.
type PrefixCache struct {
	Size    int64 // bytes that it may have
	Used    int64 // bytes that it has
	Entries int   // sequences
	Tokens  int   // of those
}

// Stats is a snapshot of an engine: how it is, and what it has counted since it began.
type Stats struct {
	Present
	Steps     uint64 // decode steps
	Prompt    uint64 // prompt tokens computed
	Cached    uint64 // prompt tokens reused
	Generated uint64 // tokens generated
	Restarts  uint64 // of the runner, with the loss of all cells
	Preempted uint64 // sequences whose place was taken, and that are computed again
	Saved     Transfers
	Restored  Transfers
	Folder    FolderStats
	Skipped   map[Skip]uint64 // prefixes that had to go and were not saved
	Drafts    map[DraftKind]DraftCount
	Measures
}

// Transfers are copies of sequences between slots and host memory.
type Transfers struct {
	Count   uint64
	Tokens  uint64
	Bytes   uint64
	Seconds float64
	Failed  uint64
}

func (t *Transfers) add(o Transfers) {
	t.Count += o.Count
	t.Tokens += o.Tokens
	t.Bytes += o.Bytes
	t.Seconds += o.Seconds
	t.Failed += o.Failed
}

// Add adds the counts of another engine of the same model, of which nothing runs.
func (s *Stats) Add(o Stats) {
	s.Steps += o.Steps
	s.Prompt += o.Prompt
	s.Cached += o.Cached
	s.Generated += o.Generated
	s.Preempted += o.Preempted
	s.Restarts += o.Restarts
	s.Saved.add(o.Saved)
	s.Restored.add(o.Restored)
	addCounts(&s.Skipped, o.Skipped)
	s.Folder.add(o.Folder)
	addDrafts(&s.Drafts, o.Drafts)
	s.Measures.Add(o.Measures)
}

// Stalled reports whether work has waited longer than d for a step to end.
func (s Present) Stalled(now time.Time, d time.Duration) bool {
	return s.Waiting+s.Running > 0 && now.Sub(s.Since) > d
}
