package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"serve/engine/enginetest"
	"serve/prompt"
)

// TestModerationResult finds OpenAI's categories for a guard's.
func TestModerationResult(t *testing.T) {
	for _, tt := range []struct {
		named   []string
		flagged string
	}{
		{nil, ""},
		{[]string{"Violent Crimes"}, "illicit illicit/violent violence"},
		{[]string{"Hate", "Defamation"}, "hate"},
		{[]string{"Defamation"}, ""}, // flagged, though OpenAI has no such category
		{[]string{"Violent Crimes", "Defamation", "Hate"}, "hate illicit illicit/violent violence"},
	} {
		unsafe := tt.named != nil
		r := newModerationResult(prompt.Verdict{Unsafe: unsafe, Probability: 0.75, Categories: tt.named})
		if r.Flagged != unsafe || !slices.Equal(r.Named, tt.named) || len(r.Categories) != 13 || len(r.Scores) != 13 {
			t.Errorf("%q: %+v", tt.named, r)
		}

		var flagged []string
		for _, c := range moderationCategories {
			if r.Categories[c] {
				flagged = append(flagged, c)
			}
			judged := r.Scores[c] == 0.75
			if r.Categories[c] != judged || judged != slices.Equal(r.Applied[c], []string{"text"}) {
				t.Errorf("%q: %s %+v", tt.named, c, r)
			}
		}
		if strings.Join(flagged, " ") != tt.flagged {
			t.Errorf("%q: flagged %v", tt.named, flagged)
		}
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
