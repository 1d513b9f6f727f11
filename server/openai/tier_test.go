package openai_test

import (
	"encoding/json"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

func TestServiceTier(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	r := servertest.Record(s)
	for _, c := range []struct {
		asked, told string
		tier        engine.Tier
	}{
		{"auto", "default", engine.TierDefault},
		{"default", "default", engine.TierDefault},
		{"scale", "default", engine.TierDefault},
		{"flex", "flex", engine.TierFlex},
		{"priority", "priority", engine.TierPriority},
		{"fast", "priority", engine.TierPriority},
	} {
		for path, body := range map[string]string{
			"/v1/chat/completions": `{"model":"fake","max_tokens":2,"service_tier":"` + c.asked + `",` + servertest.Hello + `}`,
			"/v1/responses":        `{"model":"fake","max_output_tokens":2,"service_tier":"` + c.asked + `","input":"Hello"}`,
		} {
			_, text := servertest.Ask(t, hs, path, body)
			var answer struct {
				Tier string `json:"service_tier"`
			}
			if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Tier != c.told || r.Last.Tier != c.tier {
				t.Errorf("%s %s: told %q, the engine %d (%v)", path, c.asked, answer.Tier, r.Last.Tier, err)
			}
		}
		_, text := servertest.Ask(
			t,
			hs,
			"/v1/chat/completions",
			`{"model":"fake","max_tokens":2,"stream":true,"service_tier":"`+c.asked+`",`+servertest.Hello+`}`,
		)
		chunks := strings.Count(text, `"id":`)
		if chunks == 0 ||
			strings.Count(text, `"service_tier":"`+c.told+`"`) != chunks {
			t.Errorf("%s, streamed: %s", c.asked, text)
		}
	}

	res, text := servertest.Ask(
		t, hs, "/v1/chat/completions", `{"model":"fake","service_tier":"best",`+servertest.Hello+`}`,
	)
	if res.StatusCode != 400 {
		t.Errorf("a tier that is none: %d %s", res.StatusCode, text)
	}
}
