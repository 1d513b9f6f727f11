package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"serve/access"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestParallelAnswersHaveTheirTokens asks for more answers at the same time than a key has tokens for. Those that are
// computed together have no more than there are.
func TestParallelAnswersHaveTheirTokens(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice", Limits: access.Limits{TokensPerDay: 100}})
	refused := make(chan struct{})
	_, s := servertest.Start(t, enginetest.Options{
		Next: func([]engine.Token) engine.Token { <-refused; return 'a' },
	}, server.Options{Keys: k.open()})
	h := s.Handler()

	const asked = 5
	outcomes := make(chan outcome)
	for range asked {
		go func() {
			outcomes <- ask(h, "POST", "/v1/completions", `{"model":"fake","max_tokens":40,"prompt":"abc"}`,
				"Authorization: Bearer "+secrets["alice"])
		}()
	}

	tokens := 0
	answered := 0
	for i := range asked {
		o := <-outcomes
		if i < asked-2 { // the first that end are those that were refused
			if o.status != 429 {
				t.Errorf("%d: %d %s", i, o.status, o.body)
			}
			if i == asked-3 {
				close(refused)
			}
			continue
		}
		var body struct {
			Usage struct {
				Total int `json:"total_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(o.body), &body); err != nil || o.status != 200 {
			t.Fatalf("%d %s", o.status, o.body)
		}
		answered++
		tokens += body.Usage.Total
	}
	if answered != 2 || tokens != 2*43 {
		t.Errorf("%d answers have %d tokens", answered, tokens)
	}
}

// TestAnswersWithoutABound ends answers of which no client has said how long they may be at a part of what is left.
func TestAnswersWithoutABound(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice", Limits: access.Limits{TokensPerDay: 4000}})
	_, s := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: 1 << 14},
		Next:   func([]engine.Token) engine.Token { return 'a' },
	}, server.Options{Keys: k.open()})
	last := 4000
	for i := range 3 {
		o := ask(s.Handler(), "POST", "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`}`,
			"Authorization: Bearer "+secrets["alice"])
		var body struct {
			Choices []struct {
				Reason string `json:"finish_reason"`
			}
			Usage struct {
				Tokens int `json:"completion_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(o.body), &body); err != nil || o.status != 200 {
			t.Fatalf("%d %s", o.status, o.body)
		}
		if body.Choices[0].Reason != "length" || body.Usage.Tokens >= last || body.Usage.Tokens < last/2 && i > 0 {
			t.Errorf("%d tokens after %d, %s", body.Usage.Tokens, last, body.Choices[0].Reason)
		}
		last = body.Usage.Tokens
	}
}

// TestReadingHasItsTokens refuses embeddings and scores for which there are no tokens before they are computed.
func TestReadingHasItsTokens(t *testing.T) {
	for _, tt := range []struct {
		path, body string // with texts of a length
		ranks      bool
	}{
		{"/v1/embeddings", `{"model":"fake","input":[%[1]q,%[1]q]}`, false},
		{"/v1/rerank", `{"model":"fake","query":"a","documents":[%[1]q,%[1]q]}`, true},
		{"/v1/score", `{"model":"fake","text_1":"a","text_2":[%[1]q,%[1]q]}`, true},
	} {
		k, secrets := newKeyed(t, access.NewKey{Name: "alice", Limits: access.Limits{TokensPerDay: 100}})
		_, s := servertest.Start(t, enginetest.Options{Embeds: true, Ranks: tt.ranks}, server.Options{Keys: k.open()})
		post := func(length int) outcome {
			return ask(s.Handler(), "POST", tt.path, fmt.Sprintf(tt.body, strings.Repeat("a", length)),
				"Authorization: Bearer "+secrets["alice"])
		}
		if o := post(55); o.status != 429 {
			t.Errorf("%s, too long: %d %s", tt.path, o.status, o.body)
		}
		if o := post(30); o.status != 200 {
			t.Errorf("%s: %d %s", tt.path, o.status, o.body)
		}
		if o := post(30); o.status != 429 {
			t.Errorf("%s, what is left: %d %s", tt.path, o.status, o.body)
		}
	}
}
