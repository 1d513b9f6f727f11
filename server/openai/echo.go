package openai

import (
	"encoding/json"

	"serve/server/wire"
)

// echoedTools returns the tools as a response tells them: functions have all of their fields.
func echoedTools(raw json.RawMessage) json.RawMessage {
	var list []map[string]json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return raw
	}
	for _, tool := range list {
		if string(tool["type"]) == `"`+toolFunction+`"` {
			complete(tool, map[string]string{"description": "null", "parameters": "null", "strict": "false"})
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		return raw
	}
	return b
}

// echoedFormat returns a format as a response tells it: a schema has all of its fields.
func echoedFormat(raw json.RawMessage) json.RawMessage {
	var format map[string]json.RawMessage
	if json.Unmarshal(raw, &format) != nil || string(format["type"]) != `"`+formatSchema+`"` {
		return raw
	}
	complete(format, map[string]string{"description": "null", "strict": "false"})
	b, err := json.Marshal(format)
	if err != nil {
		return raw
	}
	return b
}

// complete adds the fields that an object lacks, or has as null.
func complete(object map[string]json.RawMessage, otherwise map[string]string) {
	for name, value := range otherwise {
		if wire.IsNull(object[name]) {
			object[name] = json.RawMessage(value)
		}
	}
}
