package loadgen

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Lengths is a uniform distribution of numbers of tokens, from Least to Most.
type Lengths struct{ Least, Most int }

// ParseLengths parses "128" or "100-500".
func ParseLengths(text string) (Lengths, error) {
	from, to, ranged := strings.Cut(text, "-")
	least, err := strconv.Atoi(from)
	most := least
	if err == nil && ranged {
		most, err = strconv.Atoi(to)
	}
	if err != nil || least < 1 || most < least || most > maxTokens {
		return Lengths{}, fmt.Errorf("%q must be a number of tokens, or a range such as 100-500", text)
	}
	return Lengths{least, most}, nil
}

func (l Lengths) String() string {
	if l.Least == l.Most {
		return strconv.Itoa(l.Least)
	}
	return fmt.Sprintf("%d-%d", l.Least, l.Most)
}

// MarshalText formats it for ParseLengths.
func (l Lengths) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is ParseLengths.
func (l *Lengths) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLengths(string(text))
	return err
}

func (l Lengths) draw(r *rand.Rand) int { return l.Least + r.IntN(l.Most-l.Least+1) }

// Limits of a workload.
const (
	maxTokens   = 1 << 24
	maxRequests = 1 << 20
)

// Workload describes requests and their timing.
type Workload struct {
	Clients  int     `json:"clients,omitempty"`         // each sends a request when its last is answered; 8 by default
	Rate     float64 `json:"rate_per_second,omitempty"` // arrivals per second, at random (Poisson), instead of Clients
	Requests int     `json:"requests"`                  // total; by default eight per client, at least 64
	Prompt   Lengths `json:"prompt_tokens,omitzero"`    // of each prompt, including the shared prefix
	Answer   Lengths `json:"answer_tokens,omitzero"`
	Shared   int     `json:"shared_prefix,omitempty"`    // tokens that prompts have in common at the beginning
	Groups   int     `json:"prefix_groups,omitempty"`    // number of different shared prefixes; 1 by default
	Trace    string  `json:"trace,omitempty"`            // file with the requests, instead of the fields above
	Natural  bool    `json:"natural_endings,omitempty"`  // answers may end before their length
	Chat     bool    `json:"chat_completions,omitempty"` // instead of completions
	Seed     uint64  `json:"seed"`
}

// Request is one request of a workload.
type Request struct {
	At     time.Duration // since the beginning; only with a rate or a trace
	Prompt int           // tokens
	Answer int           // tokens
	Prefix []prefix      // parts of the prompt that others may share
}

// prefix is a run of tokens that is the same in all prompts that have its ID.
type prefix struct{ id, tokens int }

// Plan completes the workload with defaults, checks it, and generates the requests. The same workload always
// gives the same requests.
func (w *Workload) Plan() ([]Request, error) {
	if w.Clients == 0 && w.Rate == 0 {
		w.Clients = 8
	}
	if w.Requests == 0 {
		w.Requests = max(8*w.Clients, 64)
	}
	if err := w.check(); err != nil {
		return nil, err
	}

	r := rand.New(rand.NewPCG(w.Seed, 1))
	var at time.Duration
	list := make([]Request, w.Requests)
	for i := range list {
		q := Request{At: at, Prompt: w.Prompt.draw(r), Answer: w.Answer.draw(r)}
		if w.Shared > 0 {
			q.Prefix = []prefix{{r.IntN(max(1, w.Groups)), w.Shared}}
		}
		list[i] = q
		if w.Rate > 0 { // independent arrivals
			at += time.Duration(r.ExpFloat64() / w.Rate * float64(time.Second))
		}
	}
	return list, nil
}

func (w *Workload) check() error {
	switch {
	case w.Clients != 0 && w.Rate != 0:
		return errors.New("--clients and --rate cannot be used together")
	case w.Clients < 0 || w.Clients > 1<<14:
		return fmt.Errorf("clients must be from 1 to %d, not %d", 1<<14, w.Clients)
	case w.Rate < 0 || w.Rate > 1e6:
		return fmt.Errorf("the rate must be at most 1e6 requests per second, not %g", w.Rate)
	case w.Requests < 1 || w.Requests > maxRequests:
		return fmt.Errorf("requests must be from 1 to %d, not %d", maxRequests, w.Requests)
	case w.Shared < 0 || w.Shared > w.Prompt.Least:
		return fmt.Errorf("the shared prefix (%d tokens) must not be longer than the shortest prompt (%d tokens)",
			w.Shared, w.Prompt.Least)
	case w.Groups < 0 || w.Groups > maxRequests:
		return fmt.Errorf("prefix groups must be from 1 to %d, not %d", maxRequests, w.Groups)
	}
	return nil
}

// traceBlock is the tokens that one of a trace's hash_ids stands for.
const traceBlock = 512

// Replay makes the workload that of a trace, whose name is for reports, and returns its requests.
func (w *Workload) Replay(name string, trace io.Reader) ([]Request, error) {
	list, err := ReadTrace(trace)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	*w = Workload{
		Trace:    name,
		Requests: len(list),
		Natural:  w.Natural,
		Chat:     w.Chat,
		Seed:     w.Seed,
	}
	return list, nil
}

// ReadTrace reads requests from lines of JSON in the format of Mooncake's traces: timestamp
// (ms), input_length and output_length (tokens), and hash_ids, which are the same for the
// same block of 512 tokens.
func ReadTrace(in io.Reader) ([]Request, error) {
	var list []Request
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		var row struct {
			Timestamp float64 `json:"timestamp"`
			Input     int     `json:"input_length"`
			Output    int     `json:"output_length"`
			Hashes    []int   `json:"hash_ids"`
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		const year = 365 * 24 * 3600 * 1000
		if row.Timestamp < 0 || row.Timestamp > year || row.Input < 1 || row.Input > maxTokens || row.Output < 1 ||
			row.Output > maxTokens || len(row.Hashes) > maxTokens/traceBlock {
			return nil, fmt.Errorf(
				"line %d: a request needs a timestamp in ms, and input_length and output_length of at least one token", n,
			)
		}
		q := Request{At: time.Duration(row.Timestamp * float64(time.Millisecond)), Prompt: row.Input, Answer: row.Output}
		// The last block may be cut short, and is nobody else's then.
		for i, id := range row.Hashes {
			if (i+1)*traceBlock <= row.Input {
				q.Prefix = append(q.Prefix, prefix{id, traceBlock})
			}
		}
		if len(list) > 0 && q.At < list[len(list)-1].At {
			return nil, fmt.Errorf("line %d: the timestamp is earlier than that of the line before", n)
		}
		if list = append(list, q); len(list) > maxRequests {
			return nil, fmt.Errorf("more than %d requests", maxRequests)
		}
	}

	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("it contains no requests")
	}

	return list, nil
}
