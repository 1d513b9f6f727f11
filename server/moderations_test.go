package server

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
)

// TestJudged reads verdicts of a guard.
func TestJudged(t *testing.T) {
	categories := map[string]string{"S1": "Violent Crimes", "S5": "Defamation", "S9": "Hate"}
	for said, want := range map[string]struct{ flagged, named string }{
		"\n\nsafe":               {"", ""},
		"safe":                   {"", ""},
		"\n\nunsafe\nS1":         {"illicit illicit/violent violence", "Violent Crimes"},
		"unsafe\nS9,S5,S9":       {"hate", "Hate Defamation"},
		"\n\nunsafe\nS5":         {"", "Defamation"}, // flagged, though OpenAI has no such category
		"\n\nunsafe\nS1,S5,S9\n": {"hate illicit illicit/violent violence", "Violent Crimes Defamation Hate"},
	} {
		r := judged(said, 0.75, categories)
		if r.Flagged != strings.Contains(said, "unsafe") || strings.Join(r.Named, " ") != want.named || len(r.Categories) != 13 || len(r.Scores) != 13 {
			t.Errorf("%q: %+v", said, r)
		}
		var flagged []string
		for _, c := range moderationCategories {
			if r.Categories[c] {
				flagged = append(flagged, c)
			}
			if r.Categories[c] != (r.Scores[c] == 0.75) || r.Categories[c] != slices.Equal(r.Applied[c], []string{"text"}) {
				t.Errorf("%q: %s %+v", said, c, r)
			}
		}
		if strings.Join(flagged, " ") != want.flagged {
			t.Errorf("%q: flagged %v", said, flagged)
		}
	}
}

func TestUnsafeProbability(t *testing.T) {
	hs, s := start(t, enginetest.Options{}, Options{})
	_ = hs
	m, e := s.model(&http.Request{}, "fake")
	if e != nil {
		t.Fatal(e)
	}
	defer m.Release()
	at := func(token byte, p float64) engine.TokenLogProb {
		return engine.TokenLogProb{Token: engine.Token(token), LogProb: float32(math.Log(p))}
	}
	// The fake's tokens are bytes: "s" begins safe, "u" unsafe.
	tokens := []engine.TokenInfo{
		{TokenLogProb: at('\n', 0.9), Bytes: []byte("\n"), Alternatives: []engine.TokenLogProb{at('u', 0.05)}},
		{TokenLogProb: at('s', 0.6), Bytes: []byte("s"), Alternatives: []engine.TokenLogProb{at('s', 0.6), at('u', 0.2), at('x', 0.1)}},
	}
	if p := unsafeProbability(m, tokens); math.Abs(p-0.25) > 1e-6 {
		t.Errorf("%f", p)
	}
}

// TestNoModerator asks servers that cannot judge: they must not say that all is well.
func TestNoModerator(t *testing.T) {
	for _, tt := range []struct {
		moderator, body, words string
		status                 int
	}{
		{"", `{"input":"x"}`, "--moderation", http.StatusNotFound},
		{"", `{"input":"x","model":"omni-moderation-latest"}`, "--moderation", http.StatusNotFound},
		{"", `{"input":"x","model":"fake"}`, "--moderation", http.StatusNotFound},
		{"fake", `{"input":"x","model":"absent"}`, "absent", http.StatusNotFound},
		{"fake", `{"input":"S1: Hate.\nS2: Violent Crimes."}`, "no Llama Guard", http.StatusBadRequest},
		{"fake", `{"input":[]}`, "input", http.StatusBadRequest},
		{"fake", `{"input":[{"type":"image_url","image_url":{"url":"data:,"}}]}`, "image_url", http.StatusBadRequest},
	} {
		hs, _ := start(t, enginetest.Options{}, Options{Moderator: tt.moderator})
		res, body := post(t, hs, "/v1/moderations", tt.body)
		if res.StatusCode != tt.status || !strings.Contains(body, tt.words) || strings.Contains(body, "flagged") {
			t.Errorf("%s: %d %s", tt.body, res.StatusCode, body)
		}
	}
	if _, err := New(Options{Moderator: "absent"}); err == nil {
		t.Error("a moderator that is not served was taken")
	}
}
