package ollama

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/service"
)

// details are of a model in every list. All are always there.
type details struct {
	Parent       string   `json:"parent_model"`
	Format       string   `json:"format"`
	Family       string   `json:"family"`
	Families     []string `json:"families"`
	Parameters   string   `json:"parameter_size"`
	Quantization string   `json:"quantization_level"`
	Context      int      `json:"context_length,omitempty"`
	Embedding    int      `json:"embedding_length,omitempty"`
}

func newDetails(f *service.Facts) details {
	return details{
		Format:       "gguf",
		Family:       cmp.Or(f.Architecture, "unknown"),
		Families:     []string{cmp.Or(f.Architecture, "unknown")},
		Parameters:   humanCount(f.Parameters),
		Quantization: cmp.Or(f.Quantization, "unknown"),
		Context:      f.Context,
		Embedding:    f.Embedding,
	}
}

// humanCount writes a number of parameters as Ollama does.
func humanCount(n uint64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1fB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2fM", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.0fK", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}

// shown is a name as lists show it: always with a tag.
func shown(name string) string {
	if strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") {
		return name
	}
	return name + ":latest"
}

// stamp is how times of models are written: with an offset and six digits, which old versions of Python
// read, too.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000-07:00") }

// capabilities are what a model can do, in Ollama's words.
func capabilities(f *service.Facts) []string {
	if f.Embeds {
		return []string{"embedding"}
	}
	list := []string{"completion"}
	for _, c := range []struct {
		name string
		has  bool
	}{
		{"tools", prompt.TakesTools(f.Template)},
		{"insert", f.FillsMiddle},
		{"vision", f.Sees},
		{"thinking", prompt.Thinks(f.Template)},
	} {
		if c.has {
			list = append(list, c.name)
		}
	}
	return list
}

// facts describes a model: by its files, and where they say nothing by what is in memory.
func (api *API) facts(r *http.Request, m *pool.Model) (*service.Facts, *fault.Error) {
	known, e := api.service.Facts(r.Context(), m)
	if e != nil {
		return nil, e
	}
	if loaded, ok := api.pool.Loaded(m); ok {
		return withLoaded(known, loaded.Model()), nil
	}
	return known, nil
}

// withLoaded adds what a model in memory says of itself.
func withLoaded(f *service.Facts, m *engine.ModelInfo) *service.Facts {
	all := *f
	all.Architecture = cmp.Or(f.Architecture, m.Architecture)
	all.Quantization = cmp.Or(f.Quantization, m.Quantization)
	all.Parameters = cmp.Or(f.Parameters, m.Parameters)
	all.Context = cmp.Or(f.Context, m.TrainContext)
	all.Embedding = cmp.Or(f.Embedding, m.EmbeddingSize)
	all.Template = cmp.Or(f.Template, m.ChatTemplate)
	all.Bytes = cmp.Or(f.Bytes, int64(m.Size))
	all.Embeds = !m.Generates
	all.Sees = m.Vision
	all.FillsMiddle = prompt.FillsMiddle(m)
	return &all
}

type tag struct {
	Name         string   `json:"name"`
	Model        string   `json:"model"`
	Modified     string   `json:"modified_at"`
	Size         int64    `json:"size"`
	Digest       string   `json:"digest"`
	Details      details  `json:"details"`
	Capabilities []string `json:"capabilities"`
}

// tags answers GET /api/tags: the models that the client may use, the newest first.
func (api *API) tags(w http.ResponseWriter, r *http.Request) *fault.Error {
	stored, e := api.service.Stored(r.Context())
	if e != nil {
		return e
	}
	stored = slices.Clone(stored)
	slices.SortStableFunc(stored, func(a, b *service.Facts) int { return b.Modified.Compare(a.Modified) })

	list := []tag{}
	add := func(name string, f *service.Facts) {
		list = append(list, tag{
			Name:         shown(name),
			Model:        shown(name),
			Modified:     stamp(f.Modified),
			Size:         f.Bytes,
			Digest:       f.SHA256,
			Details:      newDetails(f),
			Capabilities: capabilities(f),
		})
	}
	for _, f := range stored {
		m, e := api.service.Named(r.Context(), f.Name)
		if e != nil {
			add(f.Name, f) // stored, and not served so far
			continue
		}
		if loaded, ok := api.pool.Loaded(m); ok {
			f = withLoaded(f, loaded.Model())
		}
		for _, name := range slices.Concat([]string{m.ID}, m.Aliases, api.service.Names(m)) {
			add(name, f)
		}
	}
	return writeJSON(w, map[string]any{"models": list})
}

type running struct {
	Name    string  `json:"name"`
	Model   string  `json:"model"`
	Size    uint64  `json:"size"`
	Digest  string  `json:"digest"`
	Details details `json:"details"`
	Expires string  `json:"expires_at"`
	VRAM    uint64  `json:"size_vram"`
	Context int     `json:"context_length"`

	expires time.Time
}

// hostMemory is the device that is no GPU.
const hostMemory = "host"

// ps answers GET /api/ps: the models in memory, the one that is unloaded last first.
func (api *API) ps(w http.ResponseWriter, r *http.Request) *fault.Error {
	list := []running{}
	for _, m := range api.service.Models(r.Context()) {
		expires, ok := api.pool.Expires(m)
		loaded, still := api.pool.Loaded(m)
		if !ok || !still {
			continue
		}
		f, e := api.facts(r, m)
		if e != nil {
			return e
		}
		if expires.IsZero() || service.CallOf(r.Context()).Tenant != "" {
			expires = time.Now().Add(math.MaxInt64) // never; or it would tell when another tenant has used the model
		}

		counts := api.pool.Counts(m)
		entry := running{
			Name:    shown(m.ID),
			Model:   shown(m.ID),
			Digest:  f.SHA256,
			Details: newDetails(f),
			Expires: stamp(expires),
			Context: loaded.Limits().Context,
			expires: expires,
		}
		for _, memory := range counts.Memory {
			entry.Size += memory.Planned
			if memory.Device != hostMemory {
				entry.VRAM += memory.Planned
			}
		}
		list = append(list, entry)
	}

	slices.SortStableFunc(list, func(a, b running) int { return b.expires.Compare(a.expires) })
	return writeJSON(w, map[string]any{"models": list})
}

var showTable = join(modelFields, table{
	{Name: "verbose", Type: named("false"), Doc: "Reported in `X-Ignored-Fields`: the arrays of the header are empty."},
	{Name: "system", Type: named(`""`), Doc: "Reported in `X-Ignored-Fields`: the model's own value is shown."},
	{Name: "template", Type: named(`""`), Doc: "Reported in `X-Ignored-Fields`: the model's own value is shown."},
	{Name: "options", Type: named("{}"), Doc: "Reported in `X-Ignored-Fields`: the model's own value is shown."},
})

// shownModel is the answer to POST /api/show.
type shownModel struct {
	License      string         `json:"license"`
	Modelfile    string         `json:"modelfile"`
	Parameters   string         `json:"parameters"`
	Template     string         `json:"template"`
	System       string         `json:"system,omitempty"`
	Details      details        `json:"details"`
	ModelInfo    map[string]any `json:"model_info"`
	Projector    map[string]any `json:"projector_info,omitempty"`
	Capabilities []string       `json:"capabilities"`
	Modified     string         `json:"modified_at"`
}

// show answers POST /api/show.
func (api *API) show(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.decode(w, r, showTable, nil)
	if e != nil {
		return e
	}
	if req.model == "" {
		return fault.New(fault.MissingField, "model", "model is required")
	}
	m, e := api.service.Find(r.Context(), req.model)
	if e != nil {
		return notFound(e, req.model)
	}
	f, e := api.facts(r, m)
	if e != nil {
		return e
	}

	info := modelInfo(f)
	if strings.HasPrefix(r.UserAgent(), "GitHubCopilotChat/") {
		info["general.basename"] = req.model // which it shows as the name
	}
	return writeJSON(w, shownModel{
		License:      cmp.Or(f.LicenseText, f.License, "unknown"),
		Modelfile:    modelfile(m, f),
		Parameters:   parameters(),
		Template:     template(f),
		Details:      newDetails(f),
		ModelInfo:    info,
		Projector:    finite(f.Projector),
		Capabilities: capabilities(f),
		Modified:     stamp(f.Modified),
	})
}

// modelInfo is the header of the model's file, without its long values.
func modelInfo(f *service.Facts) map[string]any {
	info := finite(f.Header)
	if info == nil {
		info = map[string]any{}
	}
	for key := range f.Arrays {
		info[key] = []any{}
	}
	maps.DeleteFunc(info, func(key string, _ any) bool {
		return key == "general.name" || strings.HasPrefix(key, "tokenizer.chat_template")
	})

	architecture := cmp.Or(f.Architecture, "unknown")
	info["general.architecture"] = architecture
	info["general.parameter_count"] = f.Parameters
	for key, n := range map[string]int{"context_length": f.Context, "embedding_length": f.Embedding} {
		if _, ok := info[architecture+"."+key]; !ok && n > 0 {
			info[architecture+"."+key] = n
		}
	}
	return info
}

// finite returns values without those that JSON does not have.
func finite(values map[string]any) map[string]any {
	if values == nil {
		return nil
	}
	kept := maps.Clone(values)
	maps.DeleteFunc(kept, func(_ string, v any) bool {
		f, ok := v.(float64)
		return ok && (math.IsNaN(f) || math.IsInf(f, 0))
	})
	return kept
}

// template is the model's, which is Jinja and not Go's. Clients that fill in the middle look for
// Ollama's name of what comes after it.
func template(f *service.Facts) string {
	if f.FillsMiddle {
		return f.Template + "{# fills in the middle: .Prompt, .Suffix #}"
	}
	return f.Template
}

// parameters lists the options that are not the engine's own defaults.
func parameters() string {
	var b strings.Builder
	for _, p := range []struct {
		name  string
		value any
	}{
		{"temperature", defaultTemperature},
		{"top_k", defaultTopK},
		{"top_p", defaultTopP},
	} {
		fmt.Fprintf(&b, "%-30s %#v\n", p.name, p.value)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// modelfile describes the model as Ollama would write it. Files have no place in it: a path of the
// server's machine is nobody's business.
func modelfile(m *pool.Model, f *service.Facts) string {
	name := shown(m.ID)
	return "# Modelfile generated by \"ollama show\"\n" +
		"# To build a new Modelfile based on this, replace FROM with:\n" +
		"# FROM " + name + "\n\n" +
		"FROM " + name + "\n" +
		"TEMPLATE \"\"\"" + template(f) + "\"\"\"\n"
}

// writeJSON writes an object that is not streamed.
func writeJSON(w http.ResponseWriter, body any) *fault.Error {
	b, err := json.Marshal(body)
	if err != nil {
		return service.Fault(err, "")
	}
	return write(w, b)
}

// version answers GET /api/version.
func (api *API) version(w http.ResponseWriter, _ *http.Request) *fault.Error {
	body, err := json.Marshal(map[string]string{"version": apiVersion})
	if err != nil {
		return service.Fault(err, "")
	}
	return write(w, body)
}
