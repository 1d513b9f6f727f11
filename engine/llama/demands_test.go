package llama

import (
	"maps"
	"slices"
	"testing"
)

// demands are templates of our own for families of the catalog that have none in llama.cpp's tree. Each makes the
// demands of theirs, and is as short as they allow. The families are in the comments.
var demands = map[string]string{
	// Mistral 7B v0.1 and v0.2, Mixtral, Codestral: two roles that alternate, and no others.
	"two roles": `{{ bos_token }}{% for m in messages %}
		{%- if m.role != ['user', 'assistant'][loop.index0 % 2] %}{{ raise_exception('roles must alternate') }}{% endif %}
		{%- if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}
		{%- elif m.role == 'assistant' %}{{ m.content + eos_token }}
		{%- else %}{{ raise_exception('only user and assistant') }}{% endif %}
		{%- endfor %}`,

	// Gemma 3 and 3n: a system message that is first goes before the user's first text; alone, it is dropped.
	"system before the user": `{%- set prefix = '' %}{% set list = messages %}
		{%- if messages[0].role == 'system' %}{% set prefix = messages[0].content + '\n\n' %}{% set list = messages[1:] %}
		{%- endif %}{{ bos_token }}{% for m in list %}
		{%- if m.role != ['user', 'assistant'][loop.index0 % 2] %}{{ raise_exception('roles must alternate') }}{% endif %}
		{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + (prefix if loop.first else '') }}
		{{- m.content | trim }}{{ '<end_of_turn>\n' }}
		{%- endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}`,

	// Mistral Small 2501, Magistral, Aya Expanse, Llama 2: a system message that is first, and then two roles in turns.
	"system, then turns": `{{ bos_token }}{% set list = messages %}{% if messages[0].role == 'system' %}
		{{- '[SYSTEM_PROMPT]' + messages[0].content + '[/SYSTEM_PROMPT]' }}{% set list = messages[1:] %}{% endif %}
		{%- for m in list %}
		{%- if m.role != ['user', 'assistant'][loop.index0 % 2] %}{{ raise_exception('roles must alternate') }}{% endif %}
		{%- if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}
		{%- elif m.role == 'assistant' %}{{ m.content + eos_token }}
		{%- else %}{{ raise_exception('only user and assistant') }}{% endif %}
		{%- endfor %}`,

	// Mistral 7B v0.3: IDs of nine characters, the system message in the last turn, turns but for calls and results.
	"short IDs": `{%- set list = messages %}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}
		{%- set list = messages[1:] %}{% endif %}{% set ns = namespace(n=0) %}
		{%- for m in list %}{% if m.role in ['user', 'assistant'] and not m.tool_calls %}
		{%- if m.role != ['user', 'assistant'][ns.n % 2] %}{{ raise_exception('roles must alternate') }}{% endif %}
		{%- set ns.n = ns.n + 1 %}{% endif %}{% endfor %}
		{{- bos_token }}{% for m in list %}
		{%- if m.role == 'user' %}{% if tools and loop.last %}{{ '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}
		{%- endif %}{{ '[INST] ' + (system + '\n\n' if loop.last and system else '') + m.content + '[/INST]' }}
		{%- elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for c in m.tool_calls %}
		{%- if c.id | length != 9 %}{{ raise_exception('IDs must have nine characters') }}{% endif %}
		{{- '{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson + ', "id": "' + c.id + '"}' }}
		{{- '' if loop.last else ', ' }}{% endfor %}{{ ']' + eos_token }}
		{%- elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}
		{%- elif m.role == 'tool' %}{% if m.tool_call_id | length != 9 %}{{ raise_exception('IDs must have nine characters') }}
		{%- endif %}{{ '[TOOL_RESULTS] {"content": "' + m.content + '", "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
		{%- else %}{{ raise_exception('only user, assistant and tool') }}{% endif %}
		{%- endfor %}`,

	// TinyLlama, Falcon 3, Phi-4, EuroLLM: three roles; others, and calls, are silently left out.
	"three roles": `{% for m in messages %}
		{%- if m.role == 'system' %}{{ '<|system|>\n' + m.content + '<|end|>\n' }}
		{%- elif m.role == 'user' %}{{ '<|user|>\n' + m.content + '<|end|>\n' }}
		{%- elif m.role == 'assistant' %}{{ '<|assistant|>\n' + m.content + '<|end|>\n' }}{% endif %}
		{%- endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}`,

	// Phi-3 mini, Phi-4 reasoning: a system message of the template's own; the conversation's is silently left out.
	"own system": `{{ '<|system|>\nYou are a model.<|end|>\n' }}{% for m in messages %}
		{%- if m.role == 'user' %}{{ '<|user|>\n' + m.content + '<|end|>\n<|assistant|>\n' }}
		{%- elif m.role == 'assistant' %}{{ m.content + '<|end|>\n' }}{% endif %}
		{%- endfor %}`,

	// Phi-4 mini: tools are a member of the system message, where nobody has them.
	"tools in the system message": `{% for m in messages %}
		{%- if m.role == 'system' and m.tools %}{{ '<|system|>' + m.content + '<|tool|>' + m.tools + '<|/tool|><|end|>' }}
		{%- else %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endif %}
		{%- endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}`,

	// SmolVLM: a text is a list of parts.
	"parts": `<|im_start|>{% for m in messages %}{{ m.role | capitalize }}
		{%- if m.content[0].type == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}
		{%- for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% elif part.type == 'image' %}{{ '<image>' }}
		{%- endif %}{% endfor %}<end_of_utterance>{{ '\n' }}
		{%- endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}`,

	// DeepSeek Coder: whatever is neither the system's nor the user's is the assistant's, and calls are left out.
	"the rest is the assistant's": `{{ bos_token }}{% for m in messages %}
		{%- if m.role == 'system' %}{{ m.content }}
		{%- elif m.role == 'user' %}{{ '### Instruction:\n' + m.content + '\n' }}
		{%- else %}{{ '### Response:\n' + m.content + '\n<|EOT|>\n' }}{% endif %}
		{%- endfor %}{% if add_generation_prompt %}{{ '### Response:' }}{% endif %}`,

	// Olmo 3: results are the environment's, calls are Python.
	"environment": `{% for m in messages %}
		{%- if m.role == 'system' %}{{ '<|im_start|>system\n' + m.content }}
		{%- if tools %}{{ '<functions>' + tools | tojson + '</functions>' }}{% endif %}{{ '<|im_end|>\n' }}
		{%- elif m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}
		{%- elif m.role == 'assistant' %}{{ '<|im_start|>assistant\n' + (m.content or '') }}
		{%- if m.tool_calls %}{{ '<function_calls>' }}{% for c in m.tool_calls %}{{ c.function.name + '(' }}
		{%- for name, value in c.function.arguments | items %}{{ name + '=' + value | tojson }}{{ '' if loop.last else ', ' }}
		{%- endfor %}{{ ')\n' }}{% endfor %}{{ '</function_calls>' }}{% endif %}{{ '<|im_end|>\n' }}
		{%- elif m.role == 'tool' %}{{ '<|im_start|>environment\n' + m.content + '<|im_end|>\n' }}{% endif %}
		{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`,

	// Mistral Small 4 and other new ones of Mistral's: no message is empty.
	"nothing empty": `{{ bos_token }}{% for m in messages %}
		{%- if not m.content and not m.tool_calls %}{{ raise_exception('a message is empty') }}{% endif %}
		{%- if m.role == 'user' and not loop.first and messages[loop.index0 - 1].role == 'user' %}
		{{- raise_exception('roles must alternate') }}{% endif %}
		{{- '<' + m.role + '>' + (m.content or '') }}{% if m.tool_calls %}{% for c in m.tool_calls %}
		{{- '<call>{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson + '}</call>' }}
		{%- endfor %}{% endif %}{{ '</' + m.role + '>' }}
		{%- endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}`,

	// Hunyuan's: one system message at the beginning, and other roles in any order.
	"system first or error": `{% for m in messages %}{% if m.role == 'system' %}
		{%- if not loop.first %}{{ raise_exception('the system message must be first') }}{% endif %}{{ m.content + '\n' }}
		{%- elif m.role == 'user' %}{{ '<|User|>' + m.content }}
		{%- elif m.role == 'assistant' %}{{ '<|Assistant|>' + m.content + eos_token }}
		{%- else %}{{ raise_exception('unknown role ' + m.role) }}{% endif %}
		{%- endfor %}{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}`,
}

// TestDemands renders every order of messages by templates that make the demands of the catalog's families.
func TestDemands(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(demands)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			matrix(t, demands[name], 1, 0)
		})
	}
}
