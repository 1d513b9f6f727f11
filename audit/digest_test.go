package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestFindText finds a text by its digest, whatever parts it was written in, in records of each version, and nobody
// finds it without the key.
func TestFindText(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir, Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	digest := func(version int, of Subject, parts ...string) string {
		d := NewText(l.keys.digestOf(version, of))
		for _, p := range parts {
			fmt.Fprint(d, p)
		}
		return d.String()
	}
	answer := func(text, reasoning string, calls ...string) Answer {
		d := NewAnswerDigest(l.Digest)
		for _, part := range strings.SplitAfter(text, " ") {
			d.Say(part)
		}
		d.Think(reasoning)
		for i, arguments := range calls {
			d.Call(i, "get_weather", "")
			for _, part := range strings.SplitAfter(arguments, ":") {
				d.Call(i, "", part)
			}
		}
		return d.Answer()
	}
	old := Answer{Text: digest(1, OfAnswer, "a", "b"), first: true}
	for _, r := range []*Record{
		{ID: "a", Message: digest(1, OfMessage, " what", " ", "is\n", "it? ", "\n"), Work: []Work{{Answers: []Answer{old}}}},
		{ID: "b", Work: []Work{{Prompts: []string{digest(1, OfPrompt, "<user>what is\nit?")}}}},
		{
			ID:      "c",
			Digests: 2,
			Message: digest(2, OfMessage, "ab"),
			Work:    []Work{{Prompts: []string{digest(2, OfPrompt, "<user>ab")}}},
		},
		{ID: "d", Digests: 2, Work: []Work{{Answers: []Answer{answer("no", ""), answer(" a word ", "\nlet me think ")}}}},
		{ID: "e", Digests: 2, Work: []Work{{Answers: []Answer{answer("", "a word", `{"b": 1.0, "a":"é"}`, "")}}}},
		{ID: "f", Digests: 3, Message: digest(2, OfMessage, "later")},
	} {
		r.Kind = RequestEnd
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	for text, want := range map[string]string{
		"what is\nit?\n":     "a message",
		"<user>what is\nit?": "b prompt",
		"ab":                 "a answer, c message",
		"<user>ab":           "c prompt",
		"what is it?":        "",
		"a word":             "d answer, e reasoning",
		"let me think":       "d reasoning",
		"later":              "",

		`[{"name":"get_weather","arguments":{"a":"\u00e9","b":1}},{"name":"get_weather","input":{}}]`: "e calls",
		`[{"function":{"name":"get_weather","arguments":"{\"a\":\"é\",\"b\":1e0}"}},` +
			`{"name":"get_weather","arguments":"{ }"}]`: "e calls",
		`[{"name":"get_weather","arguments":{"a":"é","b":1}}]`:                                       "",
		`[{"name":"get_weather","arguments":{"a":"é","b":2}},{"name":"get_weather","arguments":{}}]`: "",
	} {
		list, err := FindText(dir, []byte(text))
		var got []string
		for _, m := range list {
			got = append(got, m.Record.ID+" "+string(m.As))
		}
		if err != nil || strings.Join(got, ", ") != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, digestFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := FindText(dir, []byte("ab")); !errors.Is(err, ErrKey) {
		t.Errorf("without the key: %v", err)
	}
}

// TestDigestsAreDocumented computes digests as docs/audit.md defines them, by nothing of this package.
func TestDigestsAreDocumented(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "digest.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(file)))
	if err != nil {
		t.Fatal(err)
	}
	by := func(subject, content string) string {
		h := hmac.New(sha256.New, key)
		fmt.Fprintf(h, "serve audit digest 2\n%s\n%s", subject, content)
		return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	}

	d := NewAnswerDigest(keys.NewDigest)
	d.Say("\tIt is ")
	d.Think("The user asks.\n")
	d.Call(0, "look", `{"where": "Oslo", "days":`)
	d.Say("cold. ")
	d.Call(1, "söek", ``)
	d.Call(0, "", ` 2.50}`)
	got := d.Answer()
	want := Answer{
		Text:      by("answer", "It is cold."),
		Reasoning: by("reasoning", "The user asks."),
		Calls:     by("calls", `4:look,27:{"days":2.5,"where":"Oslo"},5:söek,2:{},`),
	}
	if got != want {
		t.Errorf("%+v\n%+v", got, want)
	}
	if empty := NewAnswerDigest(keys.NewDigest).Answer(); empty != (Answer{}) {
		t.Errorf("an answer that says nothing: %+v", empty)
	}

	text, err := json.Marshal(Work{Answers: []Answer{got, {Text: "old", first: true}}})
	if err != nil {
		t.Fatal(err)
	}
	var w Work
	if err := json.Unmarshal(text, &w); err != nil || len(w.Answers) != 2 || w.Answers[0] != got ||
		w.Answers[1] != (Answer{Text: "old", first: true}) || !bytes.Contains(text, []byte(`,"old"]`)) {
		t.Errorf("%s: %+v, %v", text, w, err)
	}
}

// TestCanonical compares with what RFC 8785 says, and with what is not I-JSON, which stays as it is.
func TestCanonical(t *testing.T) {
	for given, want := range map[string]string{
		``:                        `{}`,
		" {\n} ":                  `{}`,
		`[ ]`:                     `[]`,
		`{"b":1,"a":[true,null]}`: `{"a":[true,null],"b":1}`,
		// RFC 8785, sections 3.2.2 and 3.2.3.
		`{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
		  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}`: `{"literals":[null,true,false],` +
			`"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		`{"\u20ac":"Euro","\r":"CR","\ufb33":"Dalet","1":"One","\ud83d\ude00":"Grin","\u0080":"C","\u00f6":"o"}`: "{\"\\r\":\"CR\"," +
			"\"1\":\"One\",\"\u0080\":\"C\",\"ö\":\"o\",\"€\":\"Euro\",\"😀\":\"Grin\",\"\ufb33\":\"Dalet\"}",
		`-0`:                    `0`,
		`9007199254740991`:      `9007199254740991`,
		`"<>&` + "\u2028" + `"`: `"<>&` + "\u2028" + `"`,
		// Not I-JSON.
		`9007199254740993`:     `9007199254740993`,
		`1e999`:                `1e999`,
		` {"a":1,"a":2}`:       ` {"a":1,"a":2}`,
		`{"a":"\ud83d"}`:       `{"a":"\ud83d"}`,
		`{"a":"\ude00\u0061"}`: `{"a":"\ude00\u0061"}`,
		`{"a":1} {}`:           `{"a":1} {}`,
		`{"a": `:               `{"a": `,
		"\"\xff\"":             "\"\xff\"",
		`{"a":"\\ud83d"}`:      `{"a":"\\ud83d"}`, // an escaped backslash
	} {
		if got := string(canonical([]byte(given))); got != want {
			t.Errorf("%s:\n%s\n%s", given, got, want)
		}
	}
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	if got := string(canonical([]byte(deep))); got != deep {
		t.Error("it is nested too deep")
	}
}

// FuzzCanonical brings arguments into one form, which stays the same and means the same.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e3,"x\u00e9"],"A":{}}`, `"\ud83d\ude00"`, `{"a":1,"a":1}`, `[-0.0]`, `{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		form := canonical(text)
		if again := canonical(form); !bytes.Equal(form, again) {
			t.Fatalf("%q: %q, %q", text, form, again)
		}
		var before, after any
		if json.Unmarshal(text, &before) == nil {
			if err := json.Unmarshal(form, &after); err != nil || !reflect.DeepEqual(before, after) {
				t.Fatalf("%q: %q, %v", text, form, err)
			}
		}
	})
}
