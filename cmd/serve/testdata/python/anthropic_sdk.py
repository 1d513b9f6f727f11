"""Anthropic's API by the PyPI package anthropic: anthropic_sdk.py BASE_URL MODEL"""

import sys

import anthropic

base_url, model = sys.argv[1:]
client = anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0)
messages = [{"role": "user", "content": "How is the weather?"}]
ask = {"model": model, "messages": messages, "max_tokens": 40}

whole = client.messages.create(**ask, extra_body={"temperature": 0})
assert whole._request_id.startswith("req_") and whole.content[0].type == "text", whole
assert whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 40, whole

with client.messages.stream(**ask, extra_body={"temperature": 0}) as stream:
    text = "".join(stream.text_stream)
    streamed = stream.get_final_message()
assert [b.text for b in streamed.content] == [b.text for b in whole.content] == [text], (streamed, whole)
usage = streamed.usage
assert usage.cache_read_input_tokens > 0, usage
assert usage.input_tokens + usage.cache_read_input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens

tool = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
with client.messages.stream(
    model=model,
    messages=messages,
    max_tokens=400,
    tools=[tool],
    tool_choice={"type": "any", "disable_parallel_tool_use": True},
) as stream:
    fragments = "".join(e.partial_json for e in stream if e.type == "input_json")
    called = stream.get_final_message()
call = called.content[-1]
assert called.stop_reason == "tool_use" and call.type == "tool_use" and call.input["city"] in ("Paris", "Oslo"), called
assert anthropic.types.ToolUseBlock.model_validate(call.model_dump()).name == "weather" and fragments, called

count = client.messages.count_tokens(model=model, messages=messages)
assert count.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens, count
assert model in [m.id for m in client.models.list(limit=1)]

for wrong, error in (({"model": "x"}, anthropic.NotFoundError), ({"max_tokens": 0}, anthropic.BadRequestError)):
    try:
        client.messages.create(**{**ask, **wrong})
    except error as e:
        assert e.request_id.startswith("req_"), e
    else:
        raise AssertionError(wrong)
