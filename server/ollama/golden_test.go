package ollama_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/ollama"
	"serve/server/servertest"
	"serve/service"
	"serve/testfiles"
)

// changing is what differs from run to run in an answer.
var changing = regexp.MustCompile(`("(?:created_at|expires_at)":)"[^"]*"|("[a-z_]+_duration":)\d+|(call_)[0-9a-f]{8}`)

// modified is when the files of the tests were.
var modified = time.Date(2026, 8, 21, 10, 11, 12, 345678000, time.UTC)

// newLibrary has the facts of the fake and of a model that is stored and not served.
func newLibrary() *servertest.Library {
	fake := &service.Facts{
		Name:         "fake",
		SHA256:       strings.Repeat("0123456789abcdef", 4),
		Bytes:        2019393189,
		Modified:     modified,
		License:      "mit",
		LicenseText:  "do what you like\n",
		Architecture: "llama",
		Parameters:   3212749888,
		Quantization: "Q4_K_M",
		Context:      131072,
		Embedding:    3072,
		Template:     "{% if tools %}{{ tools }}{% endif %}{{ messages }}",
		Header: map[string]any{
			"general.architecture":    "llama",
			"general.name":            "Fake",
			"general.file_type":       uint64(15),
			"llama.context_length":    uint64(131072),
			"tokenizer.chat_template": "{{ messages }}",
		},
		Arrays: map[string]uint64{"tokenizer.ggml.tokens": 128256},
	}

	stored := *fake
	stored.Name = "stored:Q8_0"
	stored.Modified = modified.Add(time.Hour)
	stored.Parameters = 134515008
	stored.Embeds = true
	return &servertest.Library{
		Files: map[string]*service.Facts{fake.Name: fake, stored.Name: &stored},
		Hub:   map[string]*service.Facts{"hf.co/org/repo:Q4_K_M": {Name: "org/repo:Q4_K_M", Modified: modified}},
		Steps: []service.PullProgress{
			{File: "m.gguf", SHA256: strings.Repeat("ab", 32), Bytes: 1000},
			{Note: "the connection was lost; trying again"},
			{File: "m.gguf", SHA256: strings.Repeat("ab", 32), Bytes: 1000, Done: 1000},
			{File: "LICENSE", Bytes: 17, Done: 17},
		},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	got = changing.ReplaceAllString(got, "$1$2${3}0")
	testfiles.Golden(t, name, got, *ollama.Update)
}

// headers are those of an answer that this API sets.
func headers(h http.Header) string {
	var b strings.Builder
	for _, name := range []string{
		"Content-Type", "Retry-After", "X-Ignored-Fields", "X-Schema-Not-Enforced", "X-Truncated-Messages",
		"X-Truncated-Inputs",
	} {
		for _, value := range h[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	return b.String()
}

// split parses what the scripted model says: what is before a ~ is reasoning, and what follows a # is
// a call of f with these arguments.
func split(text string, partial bool) (enginetest.Message, error) {
	var m enginetest.Message
	if thought, rest, ok := strings.Cut(text, "~"); ok {
		m.Reasoning = thought
		text = rest
	} else if strings.HasPrefix(text, "hm") || partial && strings.HasPrefix("hm", text) {
		return enginetest.Message{Reasoning: text}, nil
	}
	for i, part := range strings.Split(text, "#") {
		if i == 0 {
			m.Content = part
			continue
		}
		m.ToolCalls = append(m.ToolCalls, enginetest.ToolCall{Name: "f", Arguments: part})
	}
	return m, nil
}

// say returns a Next that answers a prompt with a text without newlines, and then ends. The prompt is
// everything up to and with the last newline.
func say(text string) func([]engine.Token) engine.Token {
	return func(tokens []engine.Token) engine.Token {
		said := 0
		for said < len(tokens) && tokens[len(tokens)-1-said] != '\n' {
			said++
		}
		if said < len(text) {
			return engine.Token(text[said])
		}
		return enginetest.EOS
	}
}

const (
	hello   = `"messages":[{"role":"user","content":"Hello"}]`
	weather = `"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object",` +
		`"properties":{"b":{"type":"string"},"a":{"type":["integer","null"]}}}}}]`
	pixel  = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
	schema = `"format":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],` +
		`"additionalProperties":false}`
	notSaid  = `"stream":false`
	thinking = "hm, so~Yes."
)

// transcripts are requests by the row of the contract that they are for. Each is sent whole and, unless
// its path never streams, in pieces.
var transcripts = map[string]struct {
	method, path, body string
	says               string // of the model; "Hi!" by default
}{
	"version": {"GET", "/api/version", "", ""},
	"tags":    {"GET", "/api/tags", "", ""},
	"ps_none": {"GET", "/api/ps", "", ""},

	"show":              {"POST", "/api/show", `{"model":"fake"}`, ""},
	"show_name_verbose": {"POST", "/api/show", `{"name":"FAKE:latest","verbose":true,"system":"s"}`, ""},
	"show_stored":       {"POST", "/api/show", `{"model":"stored:q8_0"}`, ""},
	"show_none":         {"POST", "/api/show", `{}`, ""},
	"show_unknown":      {"POST", "/api/show", `{"model":"nope"}`, ""},
	"empty_body":        {"POST", "/api/chat", "", ""},
	"malformed":         {"POST", "/api/chat", `{"model":`, ""},
	"no_object":         {"POST", "/api/generate", `[]`, ""},
	"embed_empty_body":  {"POST", "/api/embed", " ", ""},
	"unknown_path":      {"GET", "/api/tokenize", "", ""},
	"wrong_method":      {"GET", "/api/chat", "", ""},
	"unknown_fields": {
		"POST",
		"/api/chat",
		`{"model":"fake",` + hello + `,"tool_choice":"auto","options":{"tfs_z":0.5,"new one":1,"num_gpu":3}}`,
		"",
	},
	"chat":          {"POST", "/api/chat", `{"model":"FAKE:latest",` + hello + `}`, ""},
	"chat_no_model": {"POST", "/api/chat", `{` + hello + `}`, ""},
	"chat_unknown":  {"POST", "/api/chat", `{"model":"nope",` + hello + `}`, ""},
	"chat_load":     {"POST", "/api/chat", `{"model":"fake"}`, ""},
	"chat_unload":   {"POST", "/api/chat", `{"model":"fake","messages":[],"keep_alive":0}`, ""},
	"chat_roles": {
		"POST",
		"/api/chat",
		`{"model":"fake","messages":[{"role":"SYSTEM","content":"s"},{"role":"User","content":"u"}],` +
			`"_debug_render_only":true}`,
		"",
	},
	"chat_bad_role": {"POST", "/api/chat", `{"model":"fake","messages":[{"role":"developer","content":"s"}]}`, ""},
	"chat_parts": {
		"POST",
		"/api/chat",
		`{"model":"fake","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`,
		"",
	},
	"chat_image": {
		"POST",
		"/api/chat",
		`{"model":"fake","messages":[{"role":"user","content":"?","images":["` + pixel + `","` + pixel + `"]}]}`,
		"",
	},
	"chat_bad_image": {
		"POST",
		"/api/chat",
		`{"model":"fake","messages":[{"role":"user","content":"?","images":["@"]}]}`,
		"",
	},
	"chat_thinking":     {"POST", "/api/chat", `{"model":"fake",` + hello + `}`, thinking},
	"chat_think_other":  {"POST", "/api/chat", `{"model":"fake",` + hello + `,"think":"hardly"}`, ""},
	"chat_think_cannot": {"POST", "/api/chat", `{"model":"fake",` + hello + `,"think":true}`, ""},
	"chat_think_no":     {"POST", "/api/chat", `{"model":"fake",` + hello + `,"think":false}`, ""},
	"chat_tools": {
		"POST",
		"/api/chat",
		`{"model":"fake",` + hello + `,` + weather + `}`,
		`Look: #{"b":"x", "a":1}#{"a":2}`,
	},
	"chat_cut_call": {
		"POST",
		"/api/chat",
		`{"model":"fake",` + hello + `,` + weather + `,"options":{"num_predict":14}}`,
		`#{"a":1}#{"b":"x", "a":1}`,
	},
	"chat_json":          {"POST", "/api/chat", `{"model":"fake",` + hello + `,"format":"json"}`, `{"a":1}`},
	"chat_schema":        {"POST", "/api/chat", `{"model":"fake",` + hello + `,` + schema + `}`, `{"a":1}`},
	"chat_schema_broken": {"POST", "/api/chat", `{"model":"fake",` + hello + `,` + schema + `}`, `{"b":1}`},
	"chat_bad_format":    {"POST", "/api/chat", `{"model":"fake",` + hello + `,"format":"yaml"}`, ""},
	"chat_bad_schema":    {"POST", "/api/chat", `{"model":"fake",` + hello + `,"format":{"type":7}}`, ""},
	"chat_no_format":     {"POST", "/api/chat", `{"model":"fake",` + hello + `,"format":""}`, ""},
	"chat_logprobs": {
		"POST",
		"/api/chat",
		`{"model":"fake",` + hello + `,"logprobs":true,"top_logprobs":2,"options":{"num_predict":1}}`,
		"",
	},
	"chat_logprobs_alone": {
		"POST",
		"/api/chat",
		`{"model":"fake",` + hello + `,"logprobs":true,"options":{"num_predict":1}}`,
		"",
	},
	"chat_top_logprobs": {"POST", "/api/chat", `{"model":"fake",` + hello + `,"top_logprobs":21}`, ""},
	"chat_length":       {"POST", "/api/chat", `{"model":"fake",` + hello + `,"options":{"num_predict":2}}`, ""},
	"chat_stop":         {"POST", "/api/chat", `{"model":"fake",` + hello + `,"options":{"stop":["!",""]}}`, ""},
	"chat_num_ctx":      {"POST", "/api/chat", `{"model":"fake",` + hello + `,"options":{"num_ctx":100000}}`, ""},
	"chat_option_type":  {"POST", "/api/chat", `{"model":"fake",` + hello + `,"options":{"top_k":"x"}}`, ""},
	"chat_option_float": {"POST", "/api/chat", `{"model":"fake",` + hello + `,"options":{"temperature":"warm"}}`, ""},
	"chat_option_stop":  {"POST", "/api/chat", `{"model":"fake",` + hello + `,"options":{"stop":"x"}}`, ""},
	"chat_option_stops": {"POST", "/api/chat", `{"model":"fake",` + hello + `,"options":{"stop":[1]}}`, ""},
	"chat_keep_alive":   {"POST", "/api/chat", `{"model":"fake",` + hello + `,"keep_alive":"soon"}`, ""},
	"chat_too_long": {
		"POST",
		"/api/chat",
		`{"model":"fake","messages":[{"role":"user","content":"` + strings.Repeat("x", 300) + `"}]}`,
		"",
	},

	"generate":            {"POST", "/api/generate", `{"model":"fake","prompt":"Why?","system":"Be kind."}`, ""},
	"generate_no_model":   {"POST", "/api/generate", `{"prompt":"x"}`, ""},
	"generate_unknown":    {"POST", "/api/generate", `{"model":"nope","prompt":"x"}`, ""},
	"generate_load":       {"POST", "/api/generate", `{"model":"fake"}`, ""},
	"generate_unload":     {"POST", "/api/generate", `{"model":"fake","prompt":"","keep_alive":"0s"}`, ""},
	"generate_context":    {"POST", "/api/generate", `{"model":"fake","prompt":"y","context":[97,98]}`, ""},
	"generate_raw":        {"POST", "/api/generate", `{"model":"fake","prompt":"[raw]\n","raw":true}`, ""},
	"generate_raw_system": {"POST", "/api/generate", `{"model":"fake","prompt":"x","raw":true,"system":"s"}`, ""},
	"generate_raw_format": {"POST", "/api/generate", `{"model":"fake","prompt":"x","raw":true,"format":"json"}`, ""},
	"generate_template":   {"POST", "/api/generate", `{"model":"fake","prompt":"x","template":"{{ .Prompt }}"}`, ""},
	"generate_suffix":     {"POST", "/api/generate", `{"model":"fake","prompt":"a\n","suffix":"b"}`, ""},
	"generate_debug": {
		"POST",
		"/api/generate",
		`{"model":"fake","prompt":"x","system":"s","_debug_render_only":true}`,
		"",
	},
	"generate_thinking": {"POST", "/api/generate", `{"model":"fake","prompt":"x"}`, thinking},
	"generate_schema":   {"POST", "/api/generate", `{"model":"fake","prompt":"x",` + schema + `}`, `{"a":1}`},
	"generate_logprobs": {
		"POST",
		"/api/generate",
		`{"model":"fake","prompt":"x","logprobs":true,"options":{"num_predict":1}}`,
		"",
	},
	"generate_image": {
		"POST",
		"/api/generate",
		`{"model":"fake","prompt":"x","images":["` + pixel + `"],"width":512}`,
		"",
	},

	"embed":          {"POST", "/api/embed", `{"model":"fake","input":["abc","de"]}`, ""},
	"embed_text":     {"POST", "/api/embed", `{"model":"fake","input":"abc","dimensions":2}`, ""},
	"embed_none":     {"POST", "/api/embed", `{"model":"fake"}`, ""},
	"embed_empty":    {"POST", "/api/embed", `{"model":"fake","input":""}`, ""},
	"embed_tokens":   {"POST", "/api/embed", `{"model":"fake","input":[1,2]}`, ""},
	"embed_number":   {"POST", "/api/embed", `{"model":"fake","input":7}`, ""},
	"embed_too_long": {"POST", "/api/embed", `{"model":"fake","input":"` + strings.Repeat("x", 65) + `"}`, ""},
	"embed_num_ctx": {
		"POST",
		"/api/embed",
		`{"model":"fake","input":"abcdef","options":{"num_ctx":4},"truncate":false}`,
		"",
	},
	"embed_truncate": {
		"POST",
		"/api/embed",
		`{"model":"fake","input":["` + strings.Repeat("x", 65) + `","y"],"truncate":true}`,
		"",
	},
	"embeddings":         {"POST", "/api/embeddings", `{"model":"fake","prompt":"abc"}`, ""},
	"embeddings_empty":   {"POST", "/api/embeddings", `{"model":"fake","prompt":""}`, ""},
	"embeddings_nothing": {"POST", "/api/embeddings", `{}`, ""},

	"pull":           {"POST", "/api/pull", `{"model":"hf.co/org/repo:Q4_K_M"}`, ""},
	"pull_unknown":   {"POST", "/api/pull", `{"name":"nope"}`, ""},
	"pull_bad":       {"POST", "/api/pull", `{"model":"../etc"}`, ""},
	"delete":         {"DELETE", "/api/delete", `{"model":"stored:Q8_0"}`, ""},
	"delete_served":  {"DELETE", "/api/delete", `{"name":"fake"}`, ""},
	"delete_unknown": {"DELETE", "/api/delete", `{"name":"nope"}`, ""},
	"delete_bad":     {"DELETE", "/api/delete", `{"name":"/etc/passwd"}`, ""},
	"copy":           {"POST", "/api/copy", `{"source":"fake","destination":"gpt-5"}`, ""},
	"copy_unknown":   {"POST", "/api/copy", `{"source":"nope","destination":"x"}`, ""},
	"copy_source":    {"POST", "/api/copy", `{"source":"","destination":"x"}`, ""},
	"copy_onto":      {"POST", "/api/copy", `{"source":"fake","destination":"a b"}`, ""},
	"create":         {"POST", "/api/create", `{"model":"x","from":"fake"}`, ""},
	"push":           {"POST", "/api/push", `{"model":"fake"}`, ""},
	"blob":           {"POST", "/api/blobs/sha256:" + strings.Repeat("0", 64), "x", ""},
}

// TestGolden compares whole answers with the golden files, and streams with them beside.
func TestGolden(t *testing.T) {
	for name, tt := range transcripts {
		t.Run(name, func(t *testing.T) {
			says := tt.says
			if says == "" {
				says = "Hi!"
			}
			ask := func(body string) string {
				fo := enginetest.Options{Next: say(says), Vision: strings.Contains(name, "image"), Parse: split}
				hs, _ := servertest.Start(t, fo, server.Options{Library: newLibrary()})
				return send(t, hs.URL, tt.method, tt.path, body)
			}

			streams := strings.Contains(tt.path, "chat") || strings.Contains(tt.path, "generate") ||
				strings.Contains(tt.path, "pull")
			if !streams || !strings.HasSuffix(tt.body, "}") {
				golden(t, name+".txt", ask(tt.body))
				return
			}
			if strings.Contains(name, "broken") {
				// Whether a stream has begun when it turns out to be wrong depends on its reader.
				golden(t, name+".txt", ask(strings.TrimSuffix(tt.body, "}")+","+notSaid+"}"))
				return
			}
			whole := ask(strings.TrimSuffix(tt.body, "}") + "," + notSaid + "}")
			golden(t, name+".txt", whole+"\n"+joined(ask(tt.body)))
		})
	}
}

// send asks without a media type, and returns the status, our headers and the body.
func send(t *testing.T, url, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // curl's -d
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d\n%s\n%s\n", res.StatusCode, headers(res.Header), text)
}

// piece is a line with a piece of a text.
var piece = regexp.MustCompile(`^(.*"(?:content|response|thinking)":")((?:[^"\\]|\\.)+)("}?,"done":false})$`)

// joined joins the pieces of a stream: a text comes in as many as the reader is fast.
func joined(stream string) string {
	var out []string
	for line := range strings.SplitSeq(changing.ReplaceAllString(stream, "$1$2${3}0"), "\n") {
		m := piece.FindStringSubmatch(line)
		if n := len(out); n > 0 && m != nil {
			last := piece.FindStringSubmatch(out[n-1])
			if last != nil && last[1] == m[1] && last[3] == m[3] {
				out[n-1] = m[1] + last[2] + m[2] + m[3]
				continue
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}
