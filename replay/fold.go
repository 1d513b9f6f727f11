package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"slices"
	"strings"
)

// What of answers is compared are their parts: texts, reasoning, calls, reasons to end and log-probabilities, whole or
// added up from a stream. Ids, times and counts of cached tokens differ from answer to answer.

// part is one thing that an answer says.
type part struct {
	name  string
	value []byte
}

// answer is what an answer says, in order.
type answer struct {
	parts []*part
}

// add adds to a part.
func (a *answer) add(name, value string) {
	if value == "" {
		return
	}
	at := slices.IndexFunc(a.parts, func(p *part) bool { return p.name == name })
	if at < 0 {
		a.parts = append(a.parts, &part{name: name})
		at = len(a.parts) - 1
	}
	a.parts[at].value = append(a.parts[at].value, value...)
}

// get returns a part; nil if there is none.
func (a *answer) get(name string) []byte {
	for _, p := range a.parts {
		if p.name == name {
			return p.value
		}
	}
	return nil
}

// fold returns what an answer says, in whichever API it is.
func fold(r *Response) *answer {
	a := new(answer)
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "text/event-stream":
		for line := range bytes.Lines(r.Body) {
			if data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:")); ok {
				a.event(bytes.TrimSpace(data))
			}
		}
	case "application/x-ndjson":
		for line := range bytes.Lines(r.Body) {
			a.event(bytes.TrimSpace(line))
		}
	default:
		a.event(r.Body)
	}
	return a
}

// value is a JSON value, of which what is asked for need not be there.
type value struct{ v any }

func (v value) at(name string) value {
	object, _ := v.v.(map[string]any)
	return value{object[name]}
}

func (v value) has(name string) bool {
	object, _ := v.v.(map[string]any)
	return object[name] != nil
}

func (v value) text() string {
	s, _ := v.v.(string)
	return s
}

func (v value) list() []value {
	list, _ := v.v.([]any)
	values := make([]value, len(list))
	for i := range list {
		values[i] = value{list[i]}
	}
	return values
}

// number returns an integer; 0 if it is none.
func (v value) number() int64 {
	n, _ := v.v.(json.Number)
	i, _ := n.Int64()
	return i
}

// json returns the value in one form.
func (v value) json() string {
	if v.v == nil {
		return ""
	}
	b, _ := json.Marshal(v.v)
	return string(b)
}

// event adds a whole answer, or what is new of one.
func (a *answer) event(text []byte) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v value
	if err := d.Decode(&v.v); err != nil {
		a.add("body", string(text)) // such as [DONE]
		return
	}

	kind := v.at("type").text()
	switch {
	case v.has("choices"):
		a.choices(v.at("choices").list())
	case v.at("object").text() == "response":
		a.response(v)
	case strings.HasPrefix(kind, "response."):
		if v.has("response") && !strings.HasSuffix(kind, ".created") && !strings.HasSuffix(kind, ".in_progress") &&
			!strings.HasSuffix(kind, ".queued") {
			a.response(v.at("response")) // it has all that came before
		}
	case kind == "message":
		a.blocks(v)
	case kind == "ping" || strings.HasPrefix(kind, "message_") || strings.HasPrefix(kind, "content_block_"):
		a.blockEvent(kind, v)
	case v.has("done"):
		a.line(v)
	default:
		a.add("body", value{withoutVolatile(v.v)}.json()+"\n")
	}
}

// choices adds those of chat completions and completions, and of their chunks.
func (a *answer) choices(list []value) {
	for _, c := range list {
		name := fmt.Sprintf("choice %d ", c.at("index").number())
		for _, field := range []string{"message", "delta"} {
			m := c.at(field)
			a.add(name+"text", m.at("content").text())
			a.add(name+"refusal", m.at("refusal").text())
			a.add(name+"reasoning", m.at("reasoning_content").text())
			for i, call := range m.at("tool_calls").list() {
				if field == "delta" {
					i = int(call.at("index").number())
				}
				a.call(fmt.Sprintf("%scall %d ", name, i), call.at("function"), "arguments")
				a.call(fmt.Sprintf("%scall %d ", name, i), call.at("custom"), "input")
			}
			a.call(name+"call ", m.at("function_call"), "arguments")
		}
		a.add(name+"text", c.at("text").text())
		a.add(name+"finish", c.at("finish_reason").text())
		a.logprobs(name, c.at("logprobs"))
	}
}

// call adds a call of a tool.
func (a *answer) call(name string, call value, input string) {
	a.add(name+"name", call.at("name").text())
	a.add(name+"arguments", call.at(input).text())
}

// logprobs adds log-probabilities: an entry for each token.
func (a *answer) logprobs(name string, v value) {
	lists, _ := v.v.(map[string]any)
	for field := range lists {
		for _, token := range v.at(field).list() {
			a.add(name+"logprobs "+field, token.json()+"\n")
		}
	}
}

// response adds one of the Responses API.
func (a *answer) response(v value) {
	a.add("status", v.at("status").text())
	if v.has("error") {
		a.add("error", v.at("error").json())
	}
	for i, item := range v.at("output").list() {
		name := fmt.Sprintf("item %d ", i)
		a.add(name+"type", item.at("type").text())
		for _, field := range []string{"content", "summary"} {
			for _, piece := range item.at(field).list() {
				a.add(name+field, piece.at("text").text()+piece.at("refusal").text())
				for _, token := range piece.at("logprobs").list() {
					a.add(name+"logprobs", token.json()+"\n")
				}
			}
		}
		a.call(name, item, "arguments")
		a.add(name+"arguments", item.at("input").text())
	}
}

// blocks adds a message of Anthropic's API.
func (a *answer) blocks(v value) {
	for i, block := range v.at("content").list() {
		a.block(i, block)
		if block.has("input") {
			a.add(fmt.Sprintf("block %d arguments", i), block.at("input").json())
		}
	}
	a.add("finish", v.at("stop_reason").text())
}

func (a *answer) block(i int, block value) {
	name := fmt.Sprintf("block %d ", i)
	a.add(name+"type", block.at("type").text())
	a.add(name+"text", block.at("text").text())
	a.add(name+"reasoning", block.at("thinking").text())
	a.add(name+"name", block.at("name").text())
}

// blockEvent adds an event of Anthropic's API.
func (a *answer) blockEvent(kind string, v value) {
	i := int(v.at("index").number())
	switch kind {
	case "content_block_start":
		a.block(i, v.at("content_block"))
	case "content_block_delta":
		name := fmt.Sprintf("block %d ", i)
		delta := v.at("delta")
		a.add(name+"text", delta.at("text").text())
		a.add(name+"reasoning", delta.at("thinking").text())
		a.add(name+"arguments", delta.at("partial_json").text())
	case "message_delta":
		a.add("finish", v.at("delta").at("stop_reason").text())
	}
}

// line adds a line, or all, of Ollama's API.
func (a *answer) line(v value) {
	m := v.at("message")
	a.add("reasoning", m.at("thinking").text()+v.at("thinking").text())
	a.add("text", m.at("content").text()+v.at("response").text())
	for _, call := range m.at("tool_calls").list() {
		f := call.at("function")
		a.add("calls", f.at("name").text()+" "+f.at("arguments").json()+"\n")
	}
	for _, token := range v.at("logprobs").list() {
		a.add("logprobs", token.json()+"\n")
	}
	a.add("finish", v.at("done_reason").text())
}

// volatile are the fields that differ from answer to answer, of those that are compared as they are.
var volatile = []string{"id", "created", "created_at", "completed_at", "request_id", "usage"}

// withoutVolatile returns a value without them.
func withoutVolatile(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := map[string]any{}
		for name, field := range v {
			if !slices.Contains(volatile, name) && !strings.HasSuffix(name, "_duration") {
				kept[name] = withoutVolatile(field)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i := range v {
			kept[i] = withoutVolatile(v[i])
		}
		return kept
	}
	return v
}

// Difference is where two answers begin to differ.
type Difference struct {
	Part string `json:"part"` // such as "choice 0 text"
	Byte int    `json:"byte"` // of the part
	// Token is the number of the first one that differs, from 0; -1 if it is not known.
	Token int    `json:"token"`
	Was   string `json:"was"` // what comes from there on, and a bit before
	Is    string `json:"is"`

	common []byte
}

// differ returns where two answers begin to differ; nil if they are the same.
func differ(was, is *answer) *Difference {
	names := []string{}
	for _, a := range []*answer{was, is} {
		for _, p := range a.parts {
			if !slices.Contains(names, p.name) {
				names = append(names, p.name)
			}
		}
	}

	var first *Difference
	for _, name := range names {
		before, after := was.get(name), is.get(name)
		if bytes.Equal(before, after) {
			continue
		}
		at := 0
		for at < min(len(before), len(after)) && before[at] == after[at] {
			at++
		}
		d := &Difference{
			Part:   name,
			Byte:   at,
			Token:  -1,
			Was:    around(before, at),
			Is:     around(after, at),
			common: before[:at],
		}
		if strings.Contains(name, "logprobs") {
			d.Token = bytes.Count(before[:at], []byte("\n"))
		}
		// A text says more than the log-probabilities beside it.
		if first == nil || strings.Contains(first.Part, "logprobs") && !strings.Contains(name, "logprobs") {
			token := -1
			if first != nil {
				token = first.Token
			}
			first = d
			first.Token = max(first.Token, token)
		} else if d.Token >= 0 && first.Token < 0 {
			first.Token = d.Token
		}
	}
	return first
}

// around returns what is at a place of a text, and a bit before.
func around(text []byte, at int) string {
	const before, after = 20, 40
	from, to := max(at-before, 0), min(at+after, len(text))
	return strings.ToValidUTF8(string(text[from:to]), "\ufffd")
}
