"""The Responses API by the PyPI package openai: responses.py BASE_URL MODEL"""

import sys
from typing import Literal

import openai
from pydantic import BaseModel

base_url, model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)


class Report(BaseModel):
    city: Literal["Paris", "Oslo"]
    warm: bool


with client.responses.stream(model=model, input="tell the world", max_output_tokens=24, temperature=0) as stream:
    events = list(stream)
text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
assert events[-1].type == "response.incomplete" and events[-1].response.output_text == text, events[-1]

with client.responses.stream(model=model, input="How is the weather?", text_format=Report, max_output_tokens=200) as stream:
    stream.until_done()
    final = stream.get_final_response()
assert isinstance(final.output_parsed, Report), final

parsed = client.responses.parse(model=model, input="How is the weather?", text_format=Report, max_output_tokens=200)
assert isinstance(parsed.output_parsed, Report), parsed

tool = openai.pydantic_function_tool(Report, name="weather")["function"]
called = client.responses.create(
    model=model,
    input=[{"role": "user", "content": "How is the weather?"}],
    tools=[{"type": "function", **tool}, {"type": "web_search"}],
    tool_choice={"type": "function", "name": "weather"},
    parallel_tool_calls=False,
    max_output_tokens=200,
)
assert called.output[0].type == "function_call" and Report.model_validate_json(called.output[0].arguments), called

# A conversation that the server keeps, read back, and deleted.
one = client.responses.create(model=model, input="One", max_output_tokens=8)
two = client.responses.create(model=model, input="Two", max_output_tokens=8, previous_response_id=one.id)
assert two.usage.input_tokens > one.usage.input_tokens, two
assert client.responses.retrieve(two.id).output == two.output
assert [item.content[0].text for item in client.responses.input_items.list(two.id)] == ["Two"]
client.responses.delete(one.id)
try:
    client.responses.create(model=model, input="Three", previous_response_id=two.id)
    raise AssertionError("went on from a conversation without its beginning")
except openai.BadRequestError as e:
    assert e.code == "previous_response_not_found", e
