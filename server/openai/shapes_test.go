package openai_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// shape is what an object must be: the kinds of its fields. A field whose name ends in ? may be absent;
// others that are not named may be there. A kind is a list of alternatives, separated by bars: string,
// integer, number, boolean, any, null, a text in apostrophes, or the name of shapes. [] before it makes a list.
type shape map[string]string

// shapes are those of one name. The type of an object says which of them it has.
type shapes []shape

// openResponses are the objects of https://www.openresponses.org, as its document of April 2026 has them.
var openResponses = map[string]shapes{
	"response": {{
		"id":                   "string",
		"object":               "'response'",
		"created_at":           "integer",
		"completed_at":         "integer|null",
		"status":               "'completed'|'failed'|'in_progress'|'incomplete'|'queued'|'cancelled'",
		"incomplete_details":   "incomplete|null",
		"model":                "string",
		"previous_response_id": "string|null",
		"instructions":         "string|null",
		"output":               "[]item",
		"error":                "error|null",
		"tools":                "[]tool",
		"tool_choice":          "'none'|'auto'|'required'|choice",
		"truncation":           "'auto'|'disabled'",
		"parallel_tool_calls":  "boolean",
		"text":                 "text",
		"top_p":                "number",
		"presence_penalty":     "number",
		"frequency_penalty":    "number",
		"top_logprobs":         "integer",
		"temperature":          "number",
		"reasoning":            "reasoning|null",
		"user":                 "string|null",
		"usage":                "usage|null",
		"max_output_tokens":    "integer|null",
		"max_tool_calls":       "integer|null",
		"store":                "boolean",
		"background":           "boolean",
		"service_tier":         "string",
		"metadata":             "any",
		"safety_identifier":    "string|null",
		"prompt_cache_key":     "string|null",
	}},
	"compaction": {{
		"id":         "string",
		"object":     "'response.compaction'",
		"output":     "[]item",
		"created_at": "integer",
		"usage":      "usage",
	}},

	"incomplete": {{"reason": "string"}},
	"error":      {{"code": "string", "message": "string"}},
	"reasoning": {{
		"effort":  "'none'|'minimal'|'low'|'medium'|'high'|'xhigh'|null",
		"summary": "'concise'|'detailed'|'auto'|null",
	}},
	"usage": {{
		"input_tokens":          "integer",
		"output_tokens":         "integer",
		"total_tokens":          "integer",
		"input_tokens_details":  "cached",
		"output_tokens_details": "reasoned",
	}},
	"cached":   {{"cached_tokens": "integer"}},
	"reasoned": {{"reasoning_tokens": "integer"}},
	"text":     {{"format": "format", "verbosity?": "'low'|'medium'|'high'"}},
	"format": {
		{"type": "'text'"},
		{"type": "'json_object'"},
		{
			"type":        "'json_schema'",
			"name":        "string",
			"description": "string|null",
			"schema":      "any",
			"strict":      "boolean",
		},
	},
	"tool": {
		{
			"type":        "'function'",
			"name":        "string",
			"description": "string|null",
			"parameters":  "any",
			"strict":      "boolean|null",
		},
		{"type": "'web_search'"},
		{"type": "'file_search'", "vector_store_ids": "[]string"},
	},
	"choice": {
		{"type": "'function'", "name?": "string"},
		{"type": "'allowed_tools'", "tools": "[]choice", "mode": "'none'|'auto'|'required'"},
	},

	"item": {
		{
			"type":    "'message'",
			"id":      "string",
			"status":  "'in_progress'|'completed'|'incomplete'",
			"role":    "'user'|'assistant'|'system'|'developer'",
			"content": "[]part",
			"phase?":  "'commentary'|'final_answer'",
		},
		{
			"type":      "'function_call'",
			"id":        "string",
			"call_id":   "string",
			"name":      "string",
			"arguments": "string",
			"status":    "'in_progress'|'completed'|'incomplete'",
		},
		{
			"type":    "'function_call_output'",
			"id":      "string",
			"call_id": "string",
			"output":  "any",
			"status":  "'in_progress'|'completed'|'incomplete'",
		},
		{
			"type":               "'reasoning'",
			"id":                 "string",
			"content?":           "[]part",
			"summary":            "[]part",
			"encrypted_content?": "string",
		},
		{"type": "'compaction'", "id": "string", "encrypted_content": "string"},
	},
	"part": {
		{"type": "'input_text'", "text": "string"},
		{"type": "'output_text'", "text": "string", "annotations": "[]any", "logprobs?": "[]logprob"},
		{"type": "'text'", "text": "string"},
		{"type": "'summary_text'", "text": "string"},
		{"type": "'reasoning_text'", "text": "string"},
		{"type": "'refusal'", "refusal": "string"},
		{"type": "'input_image'", "image_url": "string|null", "detail": "'low'|'high'|'auto'"},
		{"type": "'input_file'", "filename?": "string", "file_url?": "string"},
	},
	"logprob": {{
		"token":        "string",
		"logprob":      "number",
		"bytes":        "[]integer",
		"top_logprobs": "[]probable",
	}},
	"probable": {{"token": "string", "logprob": "number", "bytes": "[]integer"}},

	"event": slices.Concat(
		wholeEvents("created", "queued", "in_progress", "completed", "failed", "incomplete"),
		shapes{
			partEvent("output_item.added", shape{"item": "item"}),
			partEvent("output_item.done", shape{"item": "item"}),
			partEvent("content_part.added", shape{"item_id": "string", "content_index": "integer", "part": "part"}),
			partEvent("content_part.done", shape{"item_id": "string", "content_index": "integer", "part": "part"}),
			partEvent("output_text.delta", shape{
				"item_id":       "string",
				"content_index": "integer",
				"delta":         "string",
				"logprobs?":     "[]logprob",
			}),
			partEvent("output_text.done", shape{
				"item_id":       "string",
				"content_index": "integer",
				"text":          "string",
				"logprobs?":     "[]logprob",
			}),
			// Open Responses calls these two reasoning.delta and reasoning.done: see openResponsesCases.
			partEvent("reasoning_text.delta", shape{"item_id": "string", "content_index": "integer", "delta": "string"}),
			partEvent("reasoning_text.done", shape{"item_id": "string", "content_index": "integer", "text": "string"}),
			partEvent("function_call_arguments.delta", shape{"item_id": "string", "delta": "string"}),
			partEvent("function_call_arguments.done", shape{"item_id": "string", "arguments": "string"}),
			{"type": "'error'", "sequence_number": "integer", "error": "failure"},
		}),
	"failure": {{"type": "string", "code": "string|null", "message": "string", "param": "string|null"}},
}

// wholeEvents returns the shapes of events with a response.
func wholeEvents(names ...string) (list shapes) {
	for _, name := range names {
		list = append(list, shape{
			"type":            "'response." + name + "'",
			"sequence_number": "integer",
			"response":        "response",
		})
	}
	return list
}

// partEvent returns the shape of an event about a part of a response.
func partEvent(name string, fields shape) shape {
	fields["type"] = "'response." + name + "'"
	fields["sequence_number"] = "integer"
	fields["output_index"] = "integer"
	return fields
}

// decodeExactly decodes JSON, in which whole numbers differ from others.
func decodeExactly(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// violations returns how a value differs from the kinds that are allowed at its place.
func violations(at string, v any, kinds string) (found []string) {
	for kind := range strings.SplitSeq(kinds, "|") {
		of := violationsOfOne(at, v, kind)
		if len(of) == 0 {
			return nil
		}
		found = append(found, of...)
	}
	return found
}

func violationsOfOne(at string, v any, kind string) (found []string) {
	element, isList := strings.CutPrefix(kind, "[]")
	_, isShape := openResponses[kind]
	switch {
	case isList:
		list, ok := v.([]any)
		if !ok {
			break
		}
		for i, x := range list {
			found = append(found, violations(fmt.Sprintf("%s[%d]", at, i), x, element)...)
		}
		return found
	case isShape:
		if object, ok := v.(map[string]any); ok {
			return violationsOfObject(at, object, kind)
		}
	case isSimple(v, kind):
		return nil
	}
	return []string{fmt.Sprintf("%s is %v (%T), not %s", at, v, v, kind)}
}

func isSimple(v any, kind string) bool {
	switch x := v.(type) {
	case nil:
		return kind == "null" || kind == "any"
	case bool:
		return kind == "boolean" || kind == "any"
	case string:
		return kind == "string" || kind == "'"+x+"'" || kind == "any"
	case json.Number:
		_, err := x.Int64()
		return kind == "number" || kind == "integer" && err == nil || kind == "any"
	}
	return kind == "any"
}

// violationsOfObject returns how an object differs from the shape of its type.
func violationsOfObject(at string, object map[string]any, name string) (found []string) {
	all := openResponses[name]
	i := slices.IndexFunc(all, func(s shape) bool { return len(all) == 1 || isSimple(object["type"], s["type"]) })
	if i < 0 {
		return []string{fmt.Sprintf("%s is no %s: its type is %v", at, name, object["type"])}
	}

	for _, field := range slices.Sorted(maps.Keys(all[i])) {
		key, optional := strings.CutSuffix(field, "?")
		v, has := object[key]
		switch {
		case has:
			found = append(found, violations(at+"."+key, v, all[i][field])...)
		case !optional:
			found = append(found, at+"."+key+" is missing")
		}
	}
	return found
}

// TestViolations finds what differs from a shape.
func TestViolations(t *testing.T) {
	for text, want := range map[string]string{
		`{"type":"output_text","text":"a","annotations":[]}`:          "",
		`{"type":"output_text","text":"a","annotations":[],"more":1}`: "",
		`{"type":"output_text","text":"a"}`:                           "x.annotations is missing",
		`{"type":"output_text","text":null,"annotations":[]}`:         "x.text is <nil> (<nil>), not string",
		`{"type":"poem"}`: "x is no part: its type is poem",
		`{"type":"output_text","text":"a","annotations":[],"logprobs":[{}]}`:  "x.logprobs[0].bytes is missing",
		`{"type":"input_image","image_url":null,"detail":"sharp"}`:            "x.detail is sharp (string), not 'low'",
		`{"type":"output_text","text":"a","annotations":[],"logprobs":["a"]}`: "x.logprobs[0] is a (string), not logprob",
	} {
		found := strings.Join(violations("x", decodeExactly(t, text), "part"), "; ")
		if want == "" && found != "" || !strings.Contains(found, want) {
			t.Errorf("%s: %q, want %q", text, found, want)
		}
	}
}
