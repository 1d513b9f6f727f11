package server_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// sequences are orders of messages that OpenAI takes, a word for each message:
//
//	s d u a   the system's, a developer's, the user's, an assistant's message
//	su ..     the same, empty
//	c c2      an assistant's call, two calls
//	r1 r2 r0  the result of the first and of the second call, and one without text
//	i1        the first call's result, with an image
var sequences = []string{
	"u", "s u", "s", "d", "a u", "s a u", "u a", "u a s u", "u a d u", "u d", "s s u", "s u s u",
	"u u", "u a a u", "u u a a u", "a a",
	"0u", "0s u", "u 0a u", "0u 0a 0u", "s 0u",
	"u c r1", "u c r1 u", "u c r1 a u", "u c2 r1 r2", "u c2 r2 r1", "u c2 r1 r2 u", "u c2 r2 r1 a u", "u a c r1",
	"u c r0", "u c i1", "u c i1 u", "u c2 i1 r2 u",
	"u c", "u c u", "u c a u", "u c2 r2", "u c2 r1 u", "u r1", "r1", "r1 u", "u r1 u", "u c u r1", "s c r1", "c r1 u",
	"u c r1 s u", "u c r1 d u",
}

// message is a message of a sequence, in no API's words.
type message struct {
	role  string
	text  string
	calls []int  // by number
	of    int    // the call that it is the result of
	image string // Base64
}

// readSequence returns the messages of a sequence, each with a word of its own, and the words.
func readSequence(sequence, image string) (list []message, words []string) {
	roles := map[string]string{"s": "system", "d": "developer", "u": "user", "a": "assistant"}
	for i, item := range strings.Fields(sequence) {
		m := message{text: fmt.Sprintf("word%d", i+1)}
		kind, empty := strings.CutPrefix(item, "0")
		switch kind {
		case "c":
			m.calls = []int{1}
		case "c2":
			m.calls = []int{1, 2}
		case "r1", "r2", "r0", "i1":
			m.role = "tool"
			m.of = 1
		default:
			m.role = roles[kind]
		}

		switch kind {
		case "r2":
			m.of = 2
		case "i1":
			m.image = image
		case "r0":
			empty = true
		case "c", "c2":
			m.role = "assistant"
			empty = true // the words are in the arguments
			for _, n := range m.calls {
				words = append(words, callWord(n))
			}
		}
		if empty {
			m.text = ""
		} else {
			words = append(words, m.text)
		}
		list = append(list, m)
	}
	return list, words
}

type object = map[string]any

func callWord(n int) string { return fmt.Sprintf("argument%d", n) }
func callID(n int) string   { return fmt.Sprintf("call_%d", n) }

// apis write a sequence as a request.
var apis = []struct {
	path    string
	request func([]message) object
}{
	{"/v1/chat/completions", chatRequest},
	{"/v1/responses", responsesRequest},
	{"/v1/messages", anthropicRequest},
	{"/api/chat", ollamaRequest},
}

func dataURL(image string) object { return object{"url": "data:image/png;base64," + image} }

func chatRequest(list []message) object {
	var messages []object
	for _, m := range list {
		o := object{"role": m.role, "content": m.text}
		var calls []object
		for _, n := range m.calls {
			function := object{"name": "f", "arguments": `{"a":"` + callWord(n) + `"}`}
			calls = append(calls, object{"id": callID(n), "type": "function", "function": function})
		}
		if calls != nil {
			o["tool_calls"] = calls
		}
		if m.of > 0 {
			o["tool_call_id"] = callID(m.of)
		}
		if m.image != "" {
			o["content"] = []object{{"type": "text", "text": m.text}, {"type": "image_url", "image_url": dataURL(m.image)}}
		}
		messages = append(messages, o)
	}
	function := object{"name": "f", "parameters": object{"type": "object"}}
	return object{"messages": messages, "tools": []object{{"type": "function", "function": function}}, "max_tokens": 1}
}

func responsesRequest(list []message) object {
	var items []object
	for _, m := range list {
		for _, n := range m.calls {
			items = append(items, object{
				"type": "function_call", "call_id": callID(n), "name": "f", "arguments": `{"a":"` + callWord(n) + `"}`,
			})
		}
		switch {
		case m.calls != nil:
		case m.image != "":
			items = append(items, object{"type": "function_call_output", "call_id": callID(m.of), "output": []object{
				{"type": "input_text", "text": m.text},
				{"type": "input_image", "image_url": dataURL(m.image)["url"]},
			}})
		case m.of > 0:
			items = append(items, object{"type": "function_call_output", "call_id": callID(m.of), "output": m.text})
		default:
			items = append(items, object{"role": m.role, "content": m.text})
		}
	}
	tool := object{"type": "function", "name": "f", "parameters": object{"type": "object"}}
	return object{"input": items, "tools": []object{tool}, "max_output_tokens": 16}
}

func anthropicRequest(list []message) object {
	var messages []object
	for _, m := range list {
		o := object{"role": m.role, "content": m.text}
		var calls []object
		for _, n := range m.calls {
			calls = append(calls, object{"type": "tool_use", "id": callID(n), "name": "f", "input": object{"a": callWord(n)}})
		}
		if calls != nil {
			o["content"] = calls
		}
		if m.of > 0 {
			result := []object{{"type": "text", "text": m.text}}
			if m.image != "" {
				source := object{"type": "base64", "media_type": "image/png", "data": m.image}
				result = append(result, object{"type": "image", "source": source})
			}
			o = object{"role": "user", "content": []object{
				{"type": "tool_result", "tool_use_id": callID(m.of), "content": result},
			}}
		}
		if m.role == "developer" {
			o["role"] = "system" // its API has no developers
		}
		messages = append(messages, o)
	}
	tool := object{"name": "f", "input_schema": object{"type": "object"}}
	return object{"messages": messages, "tools": []object{tool}, "max_tokens": 1}
}

func ollamaRequest(list []message) object {
	var messages []object
	for _, m := range list {
		o := object{"role": m.role, "content": m.text}
		var calls []object
		for _, n := range m.calls {
			function := object{"name": "f", "arguments": object{"a": callWord(n)}}
			calls = append(calls, object{"id": callID(n), "function": function})
		}
		if calls != nil {
			o["tool_calls"] = calls
		}
		if m.of > 0 {
			o["tool_call_id"] = callID(m.of)
		}
		if m.image != "" {
			o["images"] = []string{m.image}
		}
		if m.role == "developer" {
			o["role"] = "system" // its API has no developers
		}
		messages = append(messages, o)
	}
	function := object{"name": "f", "parameters": object{"type": "object"}}
	return object{
		"messages": messages, "tools": []object{{"type": "function", "function": function}},
		"options": object{"num_predict": 1}, "stream": false,
	}
}

// strict is a template that takes two roles alone, in turns. It does not see an answer's beginning.
func strict(messages []byte) error {
	var list []struct{ Role, Content string }
	if err := json.Unmarshal(messages, &list); err != nil {
		return err
	}
	if last := len(list) - 1; last >= 0 && list[last].Role == "assistant" {
		list = list[:last]
	}
	for i, m := range list {
		if m.Role != [...]string{"user", "assistant"}[i%2] {
			return errors.New("roles must alternate")
		}
	}
	return nil
}

// TestSequences sends every order of messages by every API, to a model whose template takes all and to one whose
// template takes nearly none. None is refused, and nothing is lost.
func TestSequences(t *testing.T) {
	for name, refuse := range map[string]func([]byte) error{"any": nil, "strict": strict} {
		limits := engine.Limits{Context: 4096}
		hs, s := servertest.Start(t, enginetest.Options{Vision: true, RenderError: refuse, Limits: limits}, server.Options{})
		recorder := servertest.Record(s)
		image := base64.StdEncoding.EncodeToString(servertest.PNG(8, 8))

		for _, api := range apis {
			for _, sequence := range sequences {
				list, words := readSequence(sequence, image)
				request := api.request(list)
				request["model"] = "fake"
				body, err := json.Marshal(request)
				if err != nil {
					t.Fatal(err)
				}

				recorder.Chats = nil
				res, text := servertest.Post(t, hs, api.path, string(body))
				if res.StatusCode != http.StatusOK {
					t.Errorf("%s, %s, %q: %d %s", name, api.path, sequence, res.StatusCode, text)
					continue
				}
				last := string(recorder.Chats[len(recorder.Chats)-1].Messages)
				lost := slices.DeleteFunc(words, func(word string) bool { return strings.Contains(last, word) })
				if len(lost) > 0 {
					t.Errorf("%s, %s, %q: %q are lost: %s", name, api.path, sequence, lost, last)
				}
			}
		}
	}
}
