"""A real model by the PyPI package openai: real.py BASE_URL MODEL

It knows something, so what it says is judged, and not the shape of it alone.
"""

import math
import sys
from typing import Literal

import openai
from pydantic import BaseModel, Field

base_url, model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
system, question = "Complete the sentence of the user.", "The capital of France is"
messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
ask = {"model": model, "messages": messages, "temperature": 0, "max_completion_tokens": 32}

whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=3)
choice, tokens = whole.choices[0], whole.choices[0].logprobs.content
text = choice.message.content
assert "Paris" in text and choice.finish_reason == "stop", whole
assert "".join(t.token for t in tokens) == text, tokens
for t in tokens:
    assert t.top_logprobs[0].token == t.token and sum(math.exp(x.logprob) for x in t.top_logprobs) <= 1.0001, t
assert whole.usage.completion_tokens == len(tokens), whole.usage
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage

with client.chat.completions.stream(**ask, stream_options={"include_usage": True}) as stream:
    streamed = "".join(event.delta for event in stream if event.type == "content.delta")
    final = stream.get_final_completion()
assert streamed == text == final.choices[0].message.content, final
assert final.usage.total_tokens == whole.usage.total_tokens, final

answer = {"model": model, "instructions": system, "input": question, "temperature": 0, "max_output_tokens": 32}
response = client.responses.create(**answer)
assert response.output_text == text and response.status == "completed", response
assert response.usage.total_tokens == whole.usage.total_tokens, response
with client.responses.stream(**answer) as stream:
    assert "".join(event.delta for event in stream if event.type == "response.output_text.delta") == text

known = "The capital of France is"
completion = client.completions.create(model=model, prompt=known, temperature=0, max_tokens=1, logprobs=2, echo=True)
assert completion.choices[0].text == known + " Paris", completion
assert completion.choices[0].logprobs.token_logprobs[0] is None, completion
assert completion.usage.completion_tokens == 1, completion


class Forecast(BaseModel):
    city: Literal["Paris", "Oslo", "Rome"]
    days: int = Field(ge=1, le=7)


weather = [{"role": "user", "content": "How will the weather be in Rome for the next two days?"}]
tools = [openai.pydantic_function_tool(Forecast, name="forecast")]
for tool_choice in ("required", {"type": "function", "function": {"name": "forecast"}}):
    called = client.chat.completions.parse(
        model=model, messages=weather, tools=tools, tool_choice=tool_choice, parallel_tool_calls=False, temperature=0, max_completion_tokens=200
    )
    call = called.choices[0].message.tool_calls[0].function
    assert isinstance(call.parsed_arguments, Forecast), called
parsed = client.chat.completions.parse(model=model, messages=weather, response_format=Forecast, temperature=0, max_completion_tokens=200)
assert isinstance(parsed.choices[0].message.parsed, Forecast), parsed
