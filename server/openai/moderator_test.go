package openai_test

import (
	"net/http"
	"strings"
	"testing"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

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
		{"fake", `{"input":"S1: Hate.\nS2: Violent Crimes."}`, "not a Llama Guard model", http.StatusBadRequest},
		{"fake", `{"input":[]}`, "input", http.StatusBadRequest},
		{"fake", `{"input":[{"type":"image_url","image_url":{"url":"data:,"}}]}`, "image_url", http.StatusBadRequest},
	} {
		hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Moderator: tt.moderator})
		res, body := servertest.Post(t, hs, "/v1/moderations", tt.body)
		if res.StatusCode != tt.status || !strings.Contains(body, tt.words) || strings.Contains(body, "flagged") {
			t.Errorf("%s: %d %s", tt.body, res.StatusCode, body)
		}
	}
	if _, err := server.New(server.Options{Moderator: "absent"}); err == nil {
		t.Error("a moderator that is not served was taken")
	}
}
