package prompt

import "testing"

// TestTemplateKinds recognizes what templates are for, by their own words.
func TestTemplateKinds(t *testing.T) {
	for template, want := range map[string]struct{ thinks, tools bool }{
		"": {},
		"{% for message in messages %}{{ message.content }}{% endfor %}":                             {},
		"{% if tools %}{{ tools | tojson }}{% endif %}":                                              {tools: true},
		"{% if enable_thinking is defined and enable_thinking is false %}x{% endif %} tools":         {thinks: true, tools: true},
		"{{ '<|im_start|>assistant\n<think>\n' }}":                                                   {thinks: true},
		"<|start|>assistant<|channel|>analysis<|message|>{{ message.thinking }} {{ builtin_tools }}": {thinks: true, tools: true},
	} {
		if Thinks(template) != want.thinks || TakesTools(template) != want.tools {
			t.Errorf("%q: thinks %v, tools %v", template, Thinks(template), TakesTools(template))
		}
	}
}
