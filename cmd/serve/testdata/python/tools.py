"""Tools and structured output by the PyPI package openai: tools.py BASE_URL MODEL"""

import enum
import sys

import openai
from pydantic import BaseModel, Field

base_url, model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
messages = [{"role": "user", "content": "How is the weather?"}]


class City(str, enum.Enum):
    paris = "Paris"
    oslo = "Oslo"


class Day(BaseModel):
    warm: bool
    wind: City | None


class Report(BaseModel):
    city: City
    temperature: int = Field(ge=-40, le=40)
    days: list[Day] = Field(max_length=3)


class Weather(BaseModel):
    city: City
    celsius: bool


answer = client.chat.completions.parse(model=model, messages=messages, seed=1, max_completion_tokens=400, response_format=Report)
assert -40 <= answer.choices[0].message.parsed.temperature <= 40, answer

tools = [openai.pydantic_function_tool(Weather)]
call = client.chat.completions.parse(model=model, messages=messages, seed=1, tools=tools, tool_choice="required", parallel_tool_calls=False, max_completion_tokens=400)
for c in call.choices[0].message.tool_calls:
    assert isinstance(c.function.parsed_arguments, Weather), c

fragments = ""
with client.chat.completions.stream(
    model=model, messages=messages, seed=3, tools=tools, tool_choice="required", parallel_tool_calls=False, max_completion_tokens=400
) as stream:
    for event in stream:
        if event.type == "tool_calls.function.arguments.delta":
            fragments += event.arguments_delta
final = stream.get_final_completion().choices[0]
assert final.finish_reason == "tool_calls" and final.message.role == "assistant", final
assert fragments == final.message.tool_calls[0].function.arguments, fragments

with client.chat.completions.stream(model=model, messages=messages, seed=4, response_format=Report, max_completion_tokens=400) as stream:
    text = "".join(e.delta for e in stream if e.type == "content.delta")
assert Report.model_validate_json(text) == stream.get_final_completion().choices[0].message.parsed
