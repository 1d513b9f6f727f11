package openai_test

import (
	"fmt"
	"strings"

	"serve/engine/enginetest"
)

// allLlamaCases returns the cases of every file.
func allLlamaCases() []llamaCases {
	return []llamaCases{
		llamaChats,
		llamaFormats,
		llamaTexts,
		llamaTools,
		llamaCalls,
		llamaEmbeddings,
		llamaRankings,
		llamaTokens,
		llamaImages,
		llamaMedia,
		llamaResponses,
		llamaMessages,
		llamaMessageCalls,
		llamaMessageImages,
		llamaContexts,
	}
}

// Reasons for which answers differ.
const (
	noTimings  = "Measurements are in `/metrics` and traces, and not in answers."
	noPrompts  = "Prompts are not shown to clients."
	noMixing   = "A prompt is a text or tokens, as in OpenAI's API, and not a mixture."
	noParts    = "Inputs are texts or tokens, as in OpenAI's API."
	noTEI      = "Rerank requests have the form that Jina, Cohere and llama.cpp share; that of TEI is not read."
	noOwn      = "The error is OpenAI's: the type is `invalid_request_error`, and the code `context_length_exceeded`."
	noCounting = "`/v1/responses/input_tokens` counts tokens, as in OpenAI's API."
	noGrammar  = "Grammars from clients are not supported yet."
)

const book = `"messages":[{"role":"system","content":"Book"},{"role":"user","content":"What is the best book"}]`

var llamaChats = llamaCases{"test_chat_completion.py", says("But she couldn't find it."), []llamaCase{
	{"test_chat_completion", chatPath, `"max_tokens":8,` + book,
		`200 .*"id":"chatcmpl-.*"role":"assistant".*"finish_reason":"length".*"completion_tokens":8`, ""},
	{"test_chat_completion", chatPath, `"max_tokens":8,"messages":[{"role":"user","content":[` +
		`{"type":"text","text":"What is"},{"type":"text","text":"the best book"}]}]`, `200 .*"finish_reason":"length"`, ""},
	{"test_chat_completion (fingerprint)", chatPath, book, `200 .*"system_fingerprint":"fp_`,
		"A fingerprint has the form of OpenAI's, `fp_…`, and changes with the model as well as with the build."},
	{"test_chat_completion_stream", chatPath, `"max_tokens":8,"stream":true,` + book,
		`200 .*"role":"assistant".*"finish_reason":"length"`, ""},
	{"test_chat_completion_stream (first delta)", chatPath, `"stream":true,` + book,
		`200 data: [^\n]*"role":"assistant","content":""`, "The content of the first delta is `\"\"`, as OpenAI's is, and not null."},
	{"test_chat_completion_with_openai_library", chatPath, `"model":"gpt-4o","max_tokens":8,"seed":42,"temperature":0.8,` +
		book, `200 .*"finish_reason":"length"`, ""},
	{"test_chat_template, test_verbose_debug", chatPath, `"verbose":true,` + book,
		`200 {"id":"chatcmpl-[^\n]*"system_fingerprint":"fp_\w+"}$`, noPrompts},
	{"test_chat_template_assistant_prefill", chatPath, `"messages":[{"role":"user","content":"a"},` +
		`{"role":"assistant","content":"Whill"}]`, `200 .*"role":"assistant"`, ""},
	{"test_chat_template_assistant_prefill", chatPath, `"messages":[{"role":"user","content":"a"},` +
		`{"role":"assistant","content":[{"type":"text","text":"Wh"},{"type":"text","text":"ill"}]}]`, `200 `, ""},
	{"test_completion_with_response_format", chatPath, book + `,"response_format":{"type":"sound"}`, `400 .*"error"`, ""},
	{"test_completion_with_response_format", chatPath, book + `,"response_format":{"type":"json_object","schema":123}`,
		`400 .*"error"`, ""},
	{"test_completion_with_response_format", chatPath, book +
		`,"response_format":{"type":"json_object","schema":{"type":123}}`, `400 .*"error"`, ""},
	{"test_completion_with_response_format", chatPath, book +
		`,"response_format":{"type":"json_object","schema":{"type":"hiccup"}}`, `400 .*"error"`, ""},
	{"test_completion_with_grammar", chatPath, book + `,"grammar":"root ::= \"a\"{5,5}"`, `400 .*"param":"grammar"`,
		noGrammar},
	{"test_invalid_chat_completion_req", chatPath, `"messages":null`, `400 .*"error"`, ""},
	{"test_invalid_chat_completion_req", chatPath, `"messages":"string"`, `400 .*"error"`, ""},
	{"test_invalid_chat_completion_req", chatPath, `"messages":[123]`, `400 .*"error"`, ""},
	{"test_invalid_chat_completion_req", chatPath, `"messages":[{}]`, `400 .*"error"`, ""},
	{"test_invalid_chat_completion_req", chatPath, `"messages":[{"role":123}]`, `400 .*"error"`, ""},
	{"test_invalid_chat_completion_req", chatPath, `"messages":[{"role":"system","content":123}]`, `400 .*"error"`, ""},
	{"test_invalid_chat_completion_req", chatPath, `"messages":[{"role":"system","content":"test"},{}]`,
		`400 .*"error"`, ""},
	{"test_invalid_chat_completion_req (two at the end)", chatPath, `"messages":[{"role":"user","content":"test"},` +
		`{"role":"assistant","content":"test"},{"role":"assistant","content":"test"}]`, `200 `,
		"The last message is continued, also after another one of the assistant."},
	{"test_chat_completion_with_timings_per_token", chatPath, `"max_tokens":3,"stream":true,"timings_per_token":true,` +
		`"stream_options":{"include_usage":true},` + book, `200 .*"usage":{`, noTimings},
	{"test_logprobs", chatPath, `"temperature":0,"max_tokens":5,"logprobs":true,"top_logprobs":10,` + book,
		`200 .*"logprobs":{"content":\[{"token":"B","logprob":-0.5,"bytes":\[66\],"top_logprobs":\[{`, ""},
	{"test_logprobs_stream", chatPath, `"max_tokens":5,"logprobs":true,"top_logprobs":10,"stream":true,` + book,
		`200 .*"logprobs":{"content":\[{"token":"B","logprob":-0.5,"bytes":\[66\],"top_logprobs":\[{`, ""},
	{"test_logit_bias", chatPath, `"temperature":0,"logit_bias":{"97":-100,"98":-100},` + book, `200 `, ""},
	{"test_context_size_exceeded", chatPath, long(`{"role":"user","content":"What is the best book"}`),
		`400 .*"type":"invalid_request_error".*"code":"context_length_exceeded"`, noOwn},
	{"test_context_size_exceeded_stream", chatPath, `"stream":true,` + long(`{"role":"user","content":"What is it"}`),
		`400 .*"type":"invalid_request_error".*"code":"context_length_exceeded"`, noOwn},
	{"test_return_progress", chatPath, `"stream":true,"return_progress":true,` + book,
		`200 (data: {"id":"chatcmpl-[^\n]*"finish_reason":[a-z"]+}\]}\n\n)+data: \[DONE\]\n\n$`,
		"The progress of a prompt is not part of a stream."},
	{"test_chat_completions_multiple_choices", chatPath, `"max_tokens":8,"n":2,"id_slot":0,` + book,
		`200 .*("role":"assistant".*"finish_reason":"length".*){2}`, ""},
	{"test_chat_completions_token_count", chatPath + "/input_tokens", book, `404 `, noCounting},
}}

var llamaFormats = llamaCases{"test_chat_completion.py", says(`"42"`), []llamaCase{
	{"test_completion_with_response_format", chatPath, book +
		`,"response_format":{"type":"json_object","schema":{"const":"42"}}`, `200 .*"content":"\\"42\\""`, ""},
	{"test_completion_with_response_format", chatPath, book +
		`,"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"const":"42"}}}`,
		`200 .*"content":"\\"42\\""`, ""},
	{"test_completion_with_response_format (no name)", chatPath, book +
		`,"response_format":{"type":"json_schema","json_schema":{"schema":{"const":"42"}}}`,
		`400 .*"param":"response_format.json_schema.name"`, "A schema has a name, as OpenAI requires it."},
	{"test_completion_with_json_schema", chatPath, book + `,"json_schema":{"const":"42"}`, `400 .*"param":"json_schema"`,
		"Schemas are in `response_format`, as OpenAI has them."},
}}

// long returns a conversation that has a message too often for the context.
func long(message string) string {
	return `"messages":[` + strings.TrimSuffix(strings.Repeat(message+",", 200), ",") + `]`
}

const meaning = `"prompt":"I believe the meaning of life is\n"`

var llamaTexts = llamaCases{"test_completion.py", says("going to bed"), []llamaCase{
	{"test_completion_with_openai_library", textPath, `"max_tokens":8,` + meaning,
		`200 .*"text":"going to".*"finish_reason":"length"`, ""},
	{"test_completion_stream_with_openai_library", textPath, `"max_tokens":8,"stream":true,` + meaning,
		`200 .*"finish_reason":"length"`, ""},
	{"test_completion_stream_with_openai_library_stops", textPath, `"stop":["to","User:\n"],"max_tokens":200,` + meaning,
		`200 .*"text":"going ".*"finish_reason":"stop"`, ""},
	{"test_consistent_result_same_seed", textPath, `"seed":42,"temperature":0,"cache_prompt":false,` + meaning, `200 `, ""},
	{"test_nocache_long_input_prompt", textPath, fmt.Sprintf(`"prompt":%q`, strings.Repeat("life ", 1000)),
		`400 .*"code":"context_length_exceeded"`, ""},
	{"test_completion_with_tokens_input", textPath, `"prompt":[97,98,10]`, `200 .*"text":"going to bed"`, ""},
	{"test_completion_with_tokens_input", textPath, `"prompt":[[97,10],[97,10]]`, `200 .*("text":"going to bed".*){2}`, ""},
	{"test_completion_with_tokens_input", textPath, `"prompt":[[97,10],"a\n"]`, `200 .*("text":"going to bed".*){2}`, ""},
	{"test_completion_with_tokens_input (in one sequence)", textPath, `"prompt":[1,2,"a",3]`, `400 `, noMixing},
	{"test_json_prompt_no_mtmd", textPath, `"prompt":{"prompt_string":"a"}`, `400 .*"param":"prompt"`, noMixing},
	{"test_json_prompt_mtm_error_when_not_supported", textPath,
		`"prompt":{"prompt_string":"a","multimodal_data":["AAAA"]}`, `400 .*"error"`, ""},
	{"test_logit_bias", textPath, `"temperature":0,"logit_bias":{"97":-100},` + meaning, `200 `, ""},
	{"test_logit_bias (lists, texts)", textPath, `"logit_bias":[[97,-100]],` + meaning, `400 .*"param":"logit_bias"`,
		"`logit_bias` has the form of OpenAI's, an object of tokens."},
	{"test_logit_bias (lists, texts)", textPath, `"logit_bias":[["a",-100]],` + meaning, `400 .*"param":"logit_bias"`,
		"`logit_bias` has the form of OpenAI's, an object of tokens."},
	{"test_logit_bias (lists, texts)", textPath, `"logit_bias":{"a":-100},` + meaning, `400 .*"param":"logit_bias`,
		"`logit_bias` has the form of OpenAI's, an object of tokens."},
	{"test_n_probs", textPath, `"logprobs":5,"temperature":0,"max_tokens":5,` + meaning, `200 .*"token_logprobs":\[(-0.5,?){5}`,
		""},
	{"test_ignore_eos", textPath, `"ignore_eos":true,"max_tokens":4,` + meaning, `200 .*"finish_reason":"length"`, ""},
}}

// testTool is the tool of the tests, and testChat their conversation.
const (
	testTool = `"tools":[{"type":"function","function":{"name":"test","description":"","parameters":{"type":"object",` +
		`"properties":{"success":{"type":"boolean","const":true}},"required":["success"]}}}]`
	testChat = `"messages":[{"role":"system","content":"You are a coding assistant."},` +
		`{"role":"user","content":"Write an example"}]`
)

var llamaTools = llamaCases{"test_tool_call.py", says(`<test {"success":true}>`), []llamaCase{
	{"test_completion_with_required_tool", chatPath, `"tool_choice":"required","parallel_tool_calls":false,` + testTool +
		`,` + testChat, `200 .*"content":null.*"name":"test","arguments":"{\\"success\\":true}".*"finish_reason":"tool_calls"`,
		""},
	{"test_completion_with_required_tool", chatPath, `"stream":true,"tool_choice":"required",` + testTool + `,` + testChat,
		`200 .*"name":"test".*"finish_reason":"tool_calls"`, ""},
	{"test_weather, test_hello_world", chatPath, testTool + `,` + testChat, `200 .*"tool_calls":\[{.*"name":"test"`, ""},
	{"test_weather, test_hello_world", chatPath, `"stream":true,` + testTool + `,` + testChat,
		`200 .*"tool_calls":\[{.*"name":"test"`, ""},
}}

const noCall = `200 .*"content":"[^"]+"[^}]*}.*"finish_reason":"stop"`

var llamaCalls = llamaCases{"test_tool_call.py", says("0.56"), []llamaCase{
	{"test_completion_without_tool_call", chatPath, `"tools":null,"tool_choice":null,` + testChat, noCall, ""},
	{"test_completion_without_tool_call", chatPath, testTool + `,"tool_choice":null,` + testChat, noCall, ""},
	{"test_completion_without_tool_call", chatPath, testTool + `,"tool_choice":"none",` + testChat, noCall, ""},
	{"test_completion_without_tool_call", chatPath, `"stream":true,"tools":null,` + testChat,
		`200 .*"finish_reason":"stop"`, ""},
	{"test_completion_without_tool_call", chatPath, `"stream":true,` + testTool + `,` + testChat,
		`200 .*"finish_reason":"stop"`, ""},
	{"test_completion_without_tool_call", chatPath, `"stream":true,"tool_choice":"none",` + testTool + `,` + testChat,
		`200 .*"finish_reason":"stop"`, ""},
	{"test_calc_result", chatPath, testTool + `,"messages":[{"role":"user","content":"What is the y coordinate?"},` +
		`{"role":"assistant","content":null,"tool_calls":[{"id":"call_6789","type":"function",` +
		`"function":{"name":"test","arguments":"{\"success\":true}"}}]},` +
		`{"role":"tool","name":"test","content":"0.55644","tool_call_id":"call_6789"}]`, noCall, ""},
}}

var llamaEmbeddings = llamaCases{"test_embedding.py", enginetest.Options{Embeds: true}, []llamaCase{
	{"test_embedding_single", embedPath, `"input":"life"`, `200 .*"data":\[{[^{]*"embedding":\[[^{]*\]`, ""},
	{"test_embedding_multiple", embedPath, `"input":["a","b","c","d"]`, `200 .*("object":"embedding".*){4}`, ""},
	{"test_embedding_mixed_input (empty)", embedPath, `"input":""`, `400 .*"param":"input"`,
		"An empty input is an error, as in OpenAI's API."},
	{"test_embedding_mixed_input", embedPath, `"input":"string"`, `200 `, ""},
	{"test_embedding_mixed_input", embedPath, `"input":[12,34,56]`, `200 `, ""},
	{"test_embedding_mixed_input (in one input)", embedPath, `"input":[12,34,"string",56]`, `400 `, noMixing},
	{"test_embedding_mixed_input", embedPath, `"input":["string1","string2"]`, `200 .*"index":1`, ""},
	{"test_embedding_mixed_input", embedPath, `"input":["string1",[12,34,56]]`, `200 .*"index":1`, ""},
	{"test_embedding_mixed_input", embedPath, `"input":[[12,34,56],[12,34,56]]`, `200 .*"index":1`, ""},
	{"test_embedding_mixed_input (in one input)", embedPath, `"input":[[12,34],[12,"string"]]`, `400 `, noMixing},
	{"test_embedding_mixed_input (objects)", embedPath, `"input":{"prompt_string":"a"}`, `400 `, noParts},
	{"test_embedding_mixed_input (objects)", embedPath, `"input":{"content":[{"type":"text","text":"a"}]}`, `400 `, noParts},
	{"test_embedding_mixed_input (objects)", embedPath, `"input":["a",{"prompt_string":"b"}]`, `400 `, noParts},
	{"test_embedding_invalid_input", embedPath, `"input":[]`, `400 `, ""},
	{"test_embedding_invalid_input", embedPath, `"input":{"content":"string"}`, `400 `, ""},
	{"test_embedding_invalid_input", embedPath, `"input":{"content":[{"type":"input_audio","input_audio":{}}]}`, `400 `, ""},
	{"test_embedding_invalid_input", embedPath, `"input":{"content":[{"type":"image_url","image_url":{"url":"a"}}]}`, `400 `,
		""},
	{"test_embedding_openai_library_multiple", embedPath, `"model":"gpt-4o","input":["a","b"]`, `200 .*"index":1`, ""},
	{"test_embedding_error_prompt_too_long", embedPath, fmt.Sprintf(`"input":%q`, strings.Repeat("This is a test ", 512)),
		`400 .*"code":"context_length_exceeded"`, "The message of the error has other words: it says how much there is room for."},
	{"test_same_prompt_give_same_result", embedPath, `"input":["aa","aa"]`,
		`200 .*"embedding":\[0.014577972,0.7070316,0.7070316\].*"embedding":\[0.014577972,0.7070316,0.7070316\]`, ""},
	{"test_embedding_usage_single", embedPath, `"input":"life"`, `200 .*"prompt_tokens":4,"total_tokens":4`, ""},
	{"test_embedding_usage_multiple", embedPath, `"input":["life","life"]`, `200 .*"prompt_tokens":8,"total_tokens":8`, ""},
	{"test_embedding_openai_library_base64", embedPath, `"input":"a","encoding_format":"base64"`,
		`200 .*"embedding":"[A-Za-z0-9+/]{16}"`, ""},
}}

// ranking are the fields of a request about documents.
const ranking = `"query":"Machine learning is","documents":["a","bb","ccc","dddd"]`

var llamaRankings = llamaCases{"test_rerank.py", enginetest.Options{Embeds: true, Ranks: true}, []llamaCase{
	{"test_rerank", rerankPath, ranking, `200 .*"results":\[({"index":\d,"relevance_score":[^}]*},?){4}\]`, ""},
	{"test_rerank_tei_format, test_rerank_tei_top_n", rerankPath, `"query":"a","texts":["b"]`, `400 .*"param":"documents"`, noTEI},
	{"test_invalid_rerank_req", rerankPath, `"query":"a","documents":[]`, `400 .*"error"`, ""},
	{"test_invalid_rerank_req", rerankPath, `"query":"a","documents":null`, `400 .*"error"`, ""},
	{"test_invalid_rerank_req", rerankPath, `"query":"a","documents":123`, `400 .*"error"`, ""},
	{"test_invalid_rerank_req", rerankPath, `"query":"a","documents":[1,2,3]`, `400 .*"error"`, ""},
	{"test_rerank_usage", rerankPath, ranking, `200 .*"usage":{"prompt_tokens":\d+,"total_tokens":\d+}`, ""},
	{"test_rerank_top_n", rerankPath, ranking + `,"top_n":2`, `200 .*"results":\[({"index":\d,[^}]*},?){2}\]`, ""},
	{"test_rerank_top_n", rerankPath, ranking + `,"top_n":4`, `200 .*"results":\[({"index":\d,[^}]*},?){4}\]`, ""},
	{"test_rerank_top_n", rerankPath, ranking + `,"top_n":99`, `200 .*"results":\[({"index":\d,[^}]*},?){4}\]`, ""},
	{"test_embeddings_rejected_with_rank_pooling", "/embeddings", `"input":"hello"`, `400 .*rerank`, ""},
	{"test_embeddings_rejected_with_rank_pooling", embedPath, `"input":"hello"`, `400 .*rerank`, ""},
}}

var llamaTokens = llamaCases{"test_tokenize.py", says(""), []llamaCase{
	{"test_tokenize_detokenize", "/tokenize", `"content":"What?"`, `200 .*"tokens":\[87,104,97,116,63\]`, ""},
	{"test_tokenize_detokenize", "/detokenize", `"tokens":[87,104,97,116,63]`, `200 .*"content":"What\?"`, ""},
	{"test_tokenize_with_bos", "/tokenize", `"content":"W","add_special":true`, `200 .*"tokens":\[87\]`, ""},
	{"test_tokenize_with_pieces", "/tokenize", `"content":"aé","with_pieces":true`,
		`200 .*"tokens":\[{"id":97,"piece":"a"},{"id":\d+,"piece":\[195\]},{"id":\d+,"piece":\[169\]}\]`, ""},
}}

// showing returns a conversation with an image.
func showing(url string) string {
	return `"messages":[{"role":"user","content":[{"type":"text","text":"What is this:"},` +
		`{"type":"image_url","image_url":{"url":"` + url + `"}}]}]`
}

// pixel is a picture of one point.
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"

var llamaImages = llamaCases{"test_vision_api.py", seer, []llamaCase{
	{"test_vision_chat_completion", chatPath, showing("data:image/png;base64," + pixel), `200 .*"role":"assistant"`, ""},
	{"test_vision_chat_completion", chatPath, showing("malformed"), `400 `, ""},
	{"test_vision_chat_completion", chatPath, showing("data:text/html;base64,aGVsbG8="), `400 `, ""},
	{"test_vision_chat_completion (an address)", chatPath, showing("https://example.com/a.png"), `400 .*"param":"messages`,
		"Images are fetched from hosts that `--image-host` names, and from no others."},
	{"test_vision_chat_completion_token_count", chatPath + "/input_tokens", showing("data:image/png;base64," + pixel), `404 `,
		noCounting},
}}

var llamaMedia = llamaCases{"test_security.py", seer, []llamaCase{
	{"test_local_media_file", chatPath, showing("file://mtmd/test-1.jpeg"), `400 `, ""},
	{"test_local_media_file", chatPath, showing("file://mtmd/notfound.jpeg"), `400 `, ""},
	{"test_local_media_file", chatPath, showing("file://../mtmd/test-1.jpeg"), `400 `, ""},
	{"test_local_media_file (--media-path)", chatPath, showing("file:////mtmd//test-1.jpeg"), `400 `,
		"Files of the server's machine are not read for clients."},
}}

var llamaResponses = llamaCases{"test_compat_oai_responses.py", says(`"foooooo"`), []llamaCase{
	{"test_responses_with_text_format", responsesPath, `"input":"Write an example","text":{"format":{"type":"json_schema",` +
		`"name":"test","schema":{"const":"foooooo"}}}`, `200 .*"text":"\\"foooooo\\""`, ""},
	{"test_responses_with_text_format", responsesPath, `"input":"a","text":{"format":{"type":"text"}}`, `200 `, ""},
	{"test_responses_with_text_format", responsesPath, `"input":"a","text":{"format":{"type":"json_schema","name":"test"}}`,
		`400 .*"param":"text.format.schema"`, ""},
	{"test_responses_with_openai_library", responsesPath, `"max_output_tokens":8,"temperature":0.8,"input":[` +
		`{"role":"system","content":"Book"},{"role":"user","content":"What is the best book"}]`,
		`200 {"id":"resp_.*"id":"msg_`, ""},
	{"test_responses_stream_with_openai_library", responsesPath, `"stream":true,"input":"a"`,
		`200 event: response.created.*"id":"resp_.*event: response.completed`, ""},
	{"test_responses_stream_with_llama_telemetry", responsesPath, `"stream":true,"timings_per_token":true,"input":"a"`,
		`400 .*"param":"timings_per_token"`, noTimings},
}}

const hello = `"max_tokens":50,"messages":[{"role":"user","content":"Say hello"}]`

// isMessage matches a message of Anthropic's, of at least one block.
const isMessage = `200 .*"type":"message".*"content":\[{"type":"text","text":"`

var llamaMessages = llamaCases{"test_compat_anthropic.py", says("Hello to you"), []llamaCase{
	{"test_anthropic_messages_basic", messagesPath, hello, isMessage + `Hello.*"stop_reason":"end_turn".*"usage":{`, ""},
	{"test_anthropic_messages_basic", messagesPath, hello, `200 .*"cache_read_input_tokens":\d+.*"output_tokens":[1-9]`, ""},
	{"test_anthropic_messages_with_system", messagesPath, hello + `,"system":"You are helpful."`, isMessage, ""},
	{"test_anthropic_messages_multipart_content", messagesPath, `"max_tokens":50,"messages":[{"role":"user","content":[` +
		`{"type":"text","text":"What is"},{"type":"text","text":" the answer?"}]}]`, isMessage, ""},
	{"test_anthropic_messages_conversation", messagesPath, `"max_tokens":50,"messages":[{"role":"user","content":"Hello"},` +
		`{"role":"assistant","content":"Hi there!"},{"role":"user","content":"How are you?"}]`, isMessage, ""},
	{"test_anthropic_messages_streaming", messagesPath, hello + `,"stream":true`,
		`200 event: message_start\n.*"content":\[\].*event: content_block_start\n.*"index":0.*event: content_block_delta\n.*` +
			`"text_delta".*event: content_block_stop\n.*event: message_delta\n.*"stop_reason":"end_turn".*event: message_stop\n`,
		""},
	{"test_anthropic_count_tokens", countPath, `"messages":[{"role":"user","content":"Hello"}]`,
		`200 {"input_tokens":[1-9]\d*}`, ""},
	{"test_anthropic_count_tokens_with_system", countPath, `"system":"Be kind.","messages":[{"role":"user","content":"a"}]`,
		`200 {"input_tokens":[1-9]\d*}`, ""},
	{"test_anthropic_tool_result", messagesPath, answering(`{"type":"tool_result","tool_use_id":"t1","content":"Sunny"}`),
		isMessage, ""},
	{"test_anthropic_tool_result_with_text", messagesPath, answering(`{"type":"text","text":"Here:"},` +
		`{"type":"tool_result","tool_use_id":"t1","content":"Sunny"}`), isMessage, ""},
	{"test_anthropic_tool_result_error", messagesPath, answering(
		`{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":"City not found"}`), isMessage, ""},
	{"test_anthropic_tool_result_with_image", messagesPath, answering(`{"type":"tool_result","tool_use_id":"t1","content":[` +
		anthropicImage + `]}`), `400 .*image`, "A model that cannot see is told with 400, as in Anthropic's API, and not 500."},
	{"test_anthropic_vision_format_accepted", messagesPath, `"max_tokens":9,"messages":[{"role":"user","content":[` +
		anthropicImage + `]}]`, `400 .*image`, "A model that cannot see is told with 400, as in Anthropic's API, and not 500."},
	{"test_anthropic_stop_sequences", messagesPath, hello + `,"stop_sequences":["to"]`, isMessage + `Hello "`, ""},
	{"test_anthropic_temperature", messagesPath, hello + `,"temperature":0.5`, isMessage, ""},
	{"test_anthropic_top_p", messagesPath, hello + `,"top_p":0.9`, isMessage, ""},
	{"test_anthropic_top_k", messagesPath, hello + `,"top_k":40`, isMessage, ""},
	{"test_anthropic_missing_messages", messagesPath, `"max_tokens":50`, `400 .*"error"`, ""},
	{"test_anthropic_empty_messages", messagesPath, `"max_tokens":50,"messages":[]`, `400 .*"error"`,
		"A conversation has a message, as Anthropic requires it."},
	{"test_anthropic_thinking", messagesPath, `"max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":1024},` +
		`"messages":[{"role":"user","content":"What is 2+2?"}]`, isMessage, ""},
	{"test_anthropic_metadata", messagesPath, hello + `,"metadata":{"user_id":"test_user_123"}`, isMessage, ""},
	{"test_anthropic_vs_openai_different_response_format", "/v1/chat/completions", hello,
		`200 .*"object":"chat.completion".*"choices":\[.*"prompt_tokens":\d+.*"completion_tokens":\d+`, ""},
	{"test_anthropic_thinking_history_in_count_tokens", countPath, `"messages":[{"role":"user","content":"Fix it"},` +
		`{"role":"assistant","content":[{"type":"thinking","thinking":"I check first.","signature":""},` +
		`{"type":"text","text":"a"}]},{"role":"user","content":"b"}]`, `200 {"input_tokens":[1-9]\d*}`, ""},
}}

const anthropicImage = `{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + pixel + `"}}`

// answering returns a conversation in which a call has a result.
func answering(blocks string) string {
	return `"max_tokens":100,"messages":[{"role":"user","content":"What's the weather?"},{"role":"assistant","content":[` +
		`{"type":"tool_use","id":"t1","name":"test","input":{"location":"Paris"}}]},{"role":"user","content":[` + blocks + `]}]`
}

const anthropicTool = `,"tools":[{"name":"test","description":"A test","input_schema":{"type":"object",` +
	`"properties":{"param":{"type":"string"}},"required":["param"]}}]`

var llamaMessageCalls = llamaCases{"test_compat_anthropic.py", says(`Well.<test {"param":"a"}>`), []llamaCase{
	{"test_anthropic_tool_use_basic", messagesPath, hello + anthropicTool,
		`200 .*"type":"tool_use","id":"[^"]+","name":"test",.*"input":{"param":"a"}.*"stop_reason":"tool_use"`, ""},
	{"test_anthropic_tool_streaming", messagesPath, hello + anthropicTool + `,"stream":true`,
		`200 .*event: content_block_start\n[^\n]*"tool_use"[^\n]*"name":"test".*event: message_stop\n`, ""},
	{"test_anthropic_streaming_content_block_indices", messagesPath, hello + anthropicTool + `,"stream":true`,
		`200 .*"content_block_start","index":0.*"content_block_stop","index":0.*"content_block_start","index":1.*` +
			`"content_block_stop","index":1`, ""},
}}

var llamaMessageImages = llamaCases{"test_compat_anthropic.py", seer, []llamaCase{
	{"test_anthropic_vision_base64_with_multimodal_model", messagesPath, `"max_tokens":10,"messages":[{"role":"user",` +
		`"content":[` + anthropicImage + `,{"type":"text","text":"What is this:"}]}]`, isMessage, ""},
}}

var llamaContexts = llamaCases{"test_ctx_shift.py", enginetest.Options{}, []llamaCase{
	{"test_ctx_shift_disabled_short_prompt", textPath, `"n_predict":64,"prompt":"Hi how are you"`,
		`200 .*"finish_reason":"length".*"completion_tokens":64`, ""},
	{"test_ctx_shift_disabled_short_prompt", textPath, `"n_predict":-1,"prompt":"Hi how are you"`,
		`200 .*"finish_reason":"length"`, ""},
	{"test_ctx_shift_disabled_long_prompt", textPath, fmt.Sprintf(`"n_predict":64,"prompt":%q`, strings.Repeat("Lorem ", 99)),
		`400 .*"code":"context_length_exceeded"`, ""},
	{"test_ctx_shift_disabled_stream", textPath, `"n_predict":256,"prompt":"Once","stream":true`,
		`200 .*"finish_reason":"length"`, ""},
}}
