package server

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/server/wire"
)

// moderationRequest is the body of POST /v1/moderations.
type moderationRequest struct {
	model string
	texts []string
}

var moderationFields = wire.Fields[moderationRequest]{
	"model": func(r *moderationRequest, v wire.Value) (e *fault.Error) { r.model, e = v.Text(); return e },
	"input": func(r *moderationRequest, v wire.Value) (e *fault.Error) { r.texts, e = readModerated(v); return e },
}

// readModerated reads a text, texts, or the parts of one message.
func readModerated(v wire.Value) ([]string, *fault.Error) {
	if v.Raw[0] == '"' {
		text, e := v.Text()
		return []string{text}, e
	}
	items, e := v.Array(maxInputs)
	if e != nil {
		return nil, e
	}
	if len(items) == 0 {
		return nil, v.Empty()
	}
	if items[0].Raw[0] == '{' {
		text, _, e := readParts(v, textParts)
		return []string{text}, e
	}
	texts := make([]string, len(items))
	for i, item := range items {
		if texts[i], e = item.Text(); e != nil {
			return nil, e
		}
	}
	return texts, nil
}

// openAIModerators are the names that programs written for OpenAI send.
var openAIModerators = []string{"", "omni-moderation-latest", "omni-moderation-2024-09-26", "text-moderation-latest", "text-moderation-stable"}

// moderator finds the model that judges. Another model's word would be worth nothing.
func (s *Server) moderator(name string) (string, *fault.Error) {
	missing := fault.New(fault.ModelNotFound, "model", "")
	switch {
	case s.opts.Moderator == "":
		missing.Message = "No model is named for moderation here: start serve with --moderation and the name of a Llama Guard model."
		return "", missing
	case slices.Contains(openAIModerators, name):
		return s.opts.Moderator, nil
	}
	m, e := s.named(name)
	if e != nil {
		return "", e
	}
	if m != s.byName[s.opts.Moderator] {
		missing.Message = "The model '" + name + "' is not the one named for moderation here, which is '" + s.opts.Moderator + "'."
		return "", missing
	}
	return name, nil
}

// guardCategory is how a guard's template lists what it looks for: "S1: Violent Crimes."
var guardCategory = regexp.MustCompile(`(?m)^([A-Z]\d{1,2}): *(.+?)\.? *$`)

// guardCategories says what a guard's categories are among OpenAI's. They go by name:
// the numbers mean other things from version to version. Some have no counterpart.
var guardCategories = map[string][]string{
	"violent crimes":                     {"illicit", "illicit/violent", "violence"},
	"non-violent crimes":                 {"illicit"},
	"sex-related crimes":                 {"sexual"},
	"sex crimes":                         {"sexual"},
	"child sexual exploitation":          {"sexual/minors"},
	"child exploitation":                 {"sexual/minors"},
	"indiscriminate weapons":             {"illicit", "illicit/violent"},
	"hate":                               {"hate"},
	"suicide & self-harm":                {"self-harm"},
	"self-harm":                          {"self-harm"},
	"sexual content":                     {"sexual"},
	"code interpreter abuse":             {"illicit"},
	"violence and hate":                  {"hate", "violence"},
	"criminal planning":                  {"illicit"},
	"guns and illegal weapons":           {"illicit", "illicit/violent"},
	"regulated or controlled substances": {"illicit"},
	"suicide and self harm":              {"self-harm"},
}

// moderationCategories are OpenAI's thirteen.
var moderationCategories = []string{
	"harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
	"self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
}

type moderationResult struct {
	Flagged    bool                `json:"flagged"`
	Categories map[string]bool     `json:"categories"`
	Scores     map[string]float64  `json:"category_scores"`
	Applied    map[string][]string `json:"category_applied_input_types"`
	// Named are the guard's own categories, as its template calls them.
	Named []string `json:"guard_categories"`
}

// moderations answers POST /v1/moderations by a Llama Guard: its template asks for
// "safe", or "unsafe" and the categories, and a grammar holds it to that.
func (s *Server) moderations(w http.ResponseWriter, r *http.Request) *fault.Error {
	var req moderationRequest
	if e := decode(r, &req, moderationFields, "input"); e != nil {
		return e
	}
	name, e := s.moderator(req.model)
	if e != nil {
		return e
	}
	model, e := s.worker(r, name, engine.TierDefault)
	if e != nil {
		return e
	}
	defer model.Release()
	categories, err := guardSigns(model.Engine)
	if err != nil {
		return toFault(err, "model")
	}
	if len(categories) == 0 {
		return fault.New(fault.InvalidValue, "model", "The model '%s' is no Llama Guard: its template lists no categories of unsafe content.", name)
	}
	var streams []*engine.Stream
	defer func() { closeAll(streams) }()
	for _, text := range req.texts {
		chat := chatRequest{params: defaultParams(), messages: []message{{Role: "user", Content: text}}}
		rendered, err := chat.render(model.Engine)
		if err != nil {
			return toFault(err, "input")
		}
		er := chat.request()
		er.Sampling.Temperature, er.LogProbs, er.Top, er.MaxTokens = 0, true, 20, 16+4*len(categories)
		er.Sampling.Grammar.Text = guardGrammar(categories)
		if er.Prompt, err = model.Engine.Tokenize(rendered.Prompt, true, model.Engine.Limits().Context-1); err != nil {
			return toFault(err, "input")
		}
		if len(streams) > 0 {
			er.Beside = streams[0]
		}
		stream, err := generate(r.Context(), model, er)
		if err != nil {
			return toFault(err, "input")
		}
		streams = append(streams, stream)
	}
	body := struct {
		ID      string             `json:"id"`
		Model   string             `json:"model"`
		Results []moderationResult `json:"results"`
	}{"modr-" + randomID(), model.ID, nil}
	for _, stream := range streams {
		var said strings.Builder
		var tokens []engine.TokenInfo
		ended := engine.Finish("")
		err := readAll(r, stream, func(e *engine.Event) error {
			said.WriteString(e.Text)
			tokens = append(tokens, e.Tokens...)
			ended = e.Finish
			return nil
		})
		if err != nil {
			return toFault(err, "input")
		}
		if ended != engine.FinishStop {
			return fault.New(fault.ContextExceeded, "input", "There is no room in the context for the verdict of '%s'.", name)
		}
		body.Results = append(body.Results, judged(said.String(), unsafeProbability(model, tokens), categories))
	}
	return writeJSON(w, body)
}

// guardSigns finds the categories in a guard's template, by their sign. What it is
// rendered with is not a client's: that may list some too.
func guardSigns(e pool.Engine) (map[string]string, error) {
	probe := chatRequest{params: defaultParams(), messages: []message{{Role: "user", Content: "Hello"}}}
	rendered, err := probe.render(e)
	if err != nil {
		return nil, err
	}
	signs := map[string]string{}
	for _, found := range guardCategory.FindAllStringSubmatch(rendered.Prompt, -1) {
		signs[found[1]] = found[2]
	}
	return signs, nil
}

// guardGrammar allows a verdict and nothing else.
func guardGrammar(categories map[string]string) string {
	var signs []string
	for _, sign := range slices.Sorted(maps.Keys(categories)) {
		signs = append(signs, `"`+sign+`"`)
	}
	return fmt.Sprintf(`root ::= "\n"{0,2} ("safe" | "unsafe\n" sign ("," sign){0,%d})
sign ::= %s`, len(signs)-1, strings.Join(signs, " | "))
}

// unsafeProbability is the model's own, of "unsafe" against "safe", where it chose.
func unsafeProbability(m *pool.Lease, tokens []engine.TokenInfo) float64 {
	for _, t := range tokens {
		if strings.TrimSpace(string(t.Bytes)) == "" {
			continue
		}
		var safe, unsafe float64
		for _, a := range append(slices.Clone(t.Alternatives), t.TokenLogProb) {
			switch text := strings.TrimSpace(string(piece(m, a.Token))); {
			case text == "":
			case strings.HasPrefix("safe", text):
				safe = max(safe, math.Exp(float64(a.LogProb)))
			case strings.HasPrefix("unsafe", text):
				unsafe = max(unsafe, math.Exp(float64(a.LogProb)))
			}
		}
		return unsafe / (safe + unsafe)
	}
	return 0
}

// judged makes a result of a verdict. A guard gives one probability, that anything is
// unsafe: it is the score of every category that the guard named, and the others have 0.
func judged(said string, unsafe float64, categories map[string]string) moderationResult {
	r := moderationResult{Categories: map[string]bool{}, Scores: map[string]float64{}, Applied: map[string][]string{}, Named: []string{}}
	for _, c := range moderationCategories {
		r.Categories[c], r.Scores[c], r.Applied[c] = false, 0, []string{}
	}
	verdict, signs, _ := strings.Cut(strings.TrimSpace(said), "\n")
	r.Flagged = verdict == "unsafe"
	if !r.Flagged {
		return r
	}
	for _, sign := range strings.Split(signs, ",") {
		if name := categories[sign]; !slices.Contains(r.Named, name) {
			r.Named = append(r.Named, name)
		}
		for _, c := range guardCategories[strings.ToLower(categories[sign])] {
			r.Categories[c], r.Scores[c], r.Applied[c] = true, unsafe, []string{"text"}
		}
	}
	return r
}
