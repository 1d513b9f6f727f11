package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// aLine is a valid line of a batch, with its custom_id and the fields of its request.
func aLine(id, fields string) string {
	return `{"custom_id":"` + id + `","method":"POST","url":"/v1/embeddings","body":{` + fields + `}}`
}

// ofM is the field by which a request is for the model m.
const ofM = `"model":"m"`

func TestValidateInput(t *testing.T) {
	valid := aLine("a", ofM)
	for name, tt := range map[string]struct {
		input string
		total int
		want  string // code, param and line of each error
	}{
		"valid":           {valid + "\n" + aLine("b", ofM) + "\n", 2, ""},
		"no end":          {valid, 1, ""},
		"blank lines":     {"\r\n" + valid + "\r\n\n \n" + aLine("b", ofM), 2, ""},
		"a byte order":    {"\ufeff" + valid, 1, ""},
		"nothing":         {"\n\n", 0, "empty_file 0"},
		"not JSON":        {valid + "\n{", 2, "invalid_json_line 2"},
		"an array":        {"[]", 1, "invalid_json_line 1"},
		"null":            {"null", 1, "invalid_json_line 1"},
		"not UTF-8":       {strings.Replace(valid, `"m"`, "\"\xff\"", 1), 1, "invalid_json_line 1"},
		"no id":           {strings.Replace(valid, `"custom_id":"a",`, "", 1), 1, "missing_required_parameter custom_id 1"},
		"an empty id":     {aLine("", ""), 1, "invalid_custom_id custom_id 1"},
		"a long id":       {aLine(strings.Repeat("x", 513), ""), 1, "invalid_custom_id custom_id 1"},
		"the same id":     {valid + "\n" + valid, 2, "duplicate_custom_id custom_id 2"},
		"a method":        {strings.Replace(valid, "POST", "GET", 1), 1, "invalid_method method 1"},
		"another url":     {strings.Replace(valid, "embeddings", "files", 1), 1, "invalid_url url 1"},
		"a url of no one": {strings.Replace(valid, `"/v1/embeddings"`, "7", 1), 1, "invalid_type url 1"},
		"no body":         {strings.Replace(valid, `{"model":"m"}`, "null", 1), 1, "invalid_type body 1"},
		"a text as body":  {strings.Replace(valid, `{"model":"m"}`, `"m"`, 1), 1, "invalid_type body 1"},
		"two models":      {valid + "\n" + aLine("b", `"model":"n"`), 2, "mismatched_model body.model 2"},
		"a long line":     {aLine("a", `"x":"`+strings.Repeat("x", 900)+`"`) + "\n" + valid, 2, "line_too_long 1"},
		"several":         {"{\n{\n" + valid, 3, "invalid_json_line 1, invalid_json_line 2"},
	} {
		in, err := validateInput(strings.NewReader(tt.input), "/v1/embeddings", 800)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, e := range in.errors {
			text := e.Code
			if e.Param != nil {
				text += " " + *e.Param
			}
			line := 0
			if e.Line != nil {
				line = *e.Line
			}
			got = append(got, fmt.Sprint(text, " ", line))
		}
		if strings.Join(got, ", ") != tt.want || in.total != tt.total {
			t.Errorf("%s: %d lines, %q; want %d, %q", name, in.total, strings.Join(got, ", "), tt.total, tt.want)
		}
	}
}

// TestBatchBounds counts what is too much: lines, and errors that are told.
func TestBatchBounds(t *testing.T) {
	var b strings.Builder
	for i := range maxBatchLines + 1 {
		b.WriteString(aLine(fmt.Sprint(i), "") + "\n")
	}
	in, err := validateInput(strings.NewReader(b.String()), "/v1/embeddings", 800)
	if err != nil || len(in.errors) != 1 || in.errors[0].Code != "too_many_requests" {
		t.Errorf("%+v, %v", in, err)
	}
	in, err = validateInput(strings.NewReader(strings.Repeat("x\n", 1000)), "/v1/embeddings", 800)
	if err != nil || len(in.errors) != maxBatchErrors {
		t.Errorf("%d errors, %v", len(in.errors), err)
	}
}

// FuzzValidateInput checks that what is valid is read again as it was, whatever the limit of a line.
func FuzzValidateInput(f *testing.F) {
	f.Add([]byte(aLine("a", ofM)+"\n"+aLine("b", ofM)), 200)
	f.Add([]byte("\ufeff{}\r\n\n[1]\n"), 4)
	f.Fuzz(func(t *testing.T, input []byte, limit int) {
		limit = max(1, min(limit, 1<<16))
		in, err := validateInput(bytes.NewReader(input), "/v1/embeddings", limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(in.errors) > 0 {
			return
		}

		lines := newLineReader(bytes.NewReader(input), limit)
		ids := map[string]bool{}
		for range in.total {
			text, _, err := lines.next()
			if err != nil {
				t.Fatal(err)
			}
			line, e := parseLine(text, lines.line, "/v1/embeddings")
			if e != nil || !json.Valid(line.body) || ids[line.id] {
				t.Fatalf("%+v, %+v", line, e)
			}
			ids[line.id] = true
		}
		if _, _, err := lines.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("more than %d lines: %v", in.total, err)
		}
	})
}
