package prompt

import (
	"bytes"
	"encoding/json"
	"slices"
)

// The JSON that chat templates expect: the same as in OpenAI's chat completions.
type (
	templateMessage struct {
		Role       Role           `json:"role"`
		Content    string         `json:"content"`
		Reasoning  string         `json:"reasoning_content,omitempty"`
		ToolCalls  []templateCall `json:"tool_calls,omitempty"`
		ToolCallID string         `json:"tool_call_id,omitempty"`
		Name       string         `json:"name,omitempty"` // of the function, in a result
	}

	templateCall struct {
		ID       string             `json:"id"`
		Type     string             `json:"type"`
		Function templateCalledName `json:"function"`
	}

	templateCalledName struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	}

	templateTool struct {
		Type     string           `json:"type"`
		Function templateFunction `json:"function"`
	}

	templateFunction struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Parameters  json.RawMessage `json:"parameters"`
	}
)

func marshalMessages(messages []Message) ([]byte, error) {
	list := make([]templateMessage, len(messages))
	for i := range messages {
		m := &messages[i]
		list[i] = templateMessage{
			Role:       m.Role,
			Content:    m.Content,
			Reasoning:  m.Reasoning,
			ToolCallID: m.CallID,
			Name:       m.CallName,
		}
		for _, c := range m.Calls {
			list[i].ToolCalls = append(list[i].ToolCalls, templateCall{
				ID:       c.ID,
				Type:     "function",
				Function: templateCalledName{c.Name, c.Arguments},
			})
		}
	}
	return marshal(list)
}

// marshal returns JSON in which only what must be is escaped: other servers' templates see "<" as it is, and an escape
// is six times as long.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func (t *Tool) template() templateFunction {
	return templateFunction{t.Name, t.Description, t.Parameters}
}

func marshalTools(tools []Tool) ([]byte, error) {
	list := make([]templateTool, len(tools))
	for i := range tools {
		list[i] = templateTool{"function", tools[i].template()}
		list[i].Function.Name = tools[i].ruleName()
	}
	return marshal(list)
}

// withoutDevelopers turns developer messages into system messages.
func withoutDevelopers(messages []Message) []Message {
	messages = slices.Clone(messages)
	for i := range messages {
		if messages[i].Role == Developer {
			messages[i].Role = System
		}
	}
	return messages
}
