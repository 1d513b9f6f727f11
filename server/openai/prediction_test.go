package openai_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestPrediction counts what answers have of predictions, and refuses what is none.
func TestPrediction(t *testing.T) {
	hs, _ := servertest.StartEngine(t, enginetest.Options{
		Limits: engine.Limits{Rows: 16},
		Next:   enginetest.Say("one two three"),
	}, engine.Options{Speculation: engine.SpeculationAuto}, server.Options{})
	for _, tt := range []struct {
		prediction         string
		accepted, rejected int
	}{
		{`{"type":"content","content":"one two three"}`, 13, 0},
		{`{"type":"content","content":[{"type":"text","text":"one two four"}]}`, 8, 4},
		{`{"type":"content","content":"nothing of it"}`, 0, 13},
		{`null`, 0, 0},
	} {
		_, body := servertest.Post(t, hs, "/v1/chat/completions",
			fmt.Sprintf(`{"model":"fake","n":2,%s,"prediction":%s}`, servertest.Hello, tt.prediction))
		var answer struct {
			Choices []struct {
				Message struct{ Content string }
			}
			Usage struct {
				Completion int `json:"completion_tokens"`
				Details    struct {
					Accepted int `json:"accepted_prediction_tokens"`
					Rejected int `json:"rejected_prediction_tokens"`
				} `json:"completion_tokens_details"`
			}
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Choices) != 2 {
			t.Fatalf("%v: %s", err, body)
		}
		u := &answer.Usage
		if u.Details.Accepted != 2*tt.accepted || u.Details.Rejected != 2*tt.rejected || u.Completion != 26 {
			t.Errorf("%s: usage %+v", tt.prediction, *u)
		}
		if got := answer.Choices[1].Message.Content; got != "one two three" {
			t.Errorf("%s: answered %q", tt.prediction, got)
		}
	}

	for _, prediction := range []string{
		`"text"`, `{"type":"content"}`, `{"type":"text","content":"x"}`, `{"type":"content","content":5}`,
		`{"type":"content","content":"x","more":1}`,
	} {
		res, body := servertest.Post(t, hs, "/v1/chat/completions",
			fmt.Sprintf(`{"model":"fake",%s,"prediction":%s}`, servertest.Hello, prediction))
		if res.StatusCode != 400 || !strings.Contains(body, "prediction") {
			t.Errorf("%s: %d %s", prediction, res.StatusCode, body)
		}
	}
}
