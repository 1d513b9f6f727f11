"""OpenAI's recorded streams and ours through the same helper of the PyPI package
openai: replay.py BASE_URL MODEL RECORDED_URL. The recorded one is asked for by its
name as the model."""

import sys

import openai

base_url, model, recorded_url = sys.argv[1:]
ours, theirs = (openai.OpenAI(base_url=u, api_key="none", max_retries=0) for u in (base_url, recorded_url))


def shape(v):
    """A value with its texts and numbers left out."""
    if isinstance(v, dict):
        # What was parsed has the shape of the tool's schema, which is another there.
        return {k: "parsed" if k == "parsed_arguments" else shape(x) for k, x in v.items()}
    if isinstance(v, list):
        return [merge([shape(x) for x in v])] if v else []
    return type(v).__name__


def merge(shapes):
    if not all(isinstance(s, dict) for s in shapes):
        return next((s for s in shapes if s != "NoneType"), shapes[0])
    keys = {k for s in shapes for k in s}
    return {k: merge([s[k] for s in shapes if k in s]) for k in keys}


def within(recorded, our, path):
    """Asserts that all that one shape has the other has too, and alike."""
    if isinstance(recorded, dict):
        assert isinstance(our, dict), f"{path} is {our}"
        for key in recorded:
            assert key in our, f"{path}.{key} is not there"
            within(recorded[key], our[key], f"{path}.{key}")
    elif isinstance(recorded, list):
        assert isinstance(our, list) and len(our) == len(recorded), f"{path} is {our}"
        for a, b in zip(recorded, our):
            within(a, b, f"{path}[]")
    else:
        assert recorded in ("NoneType", our), f"{path} is {our}, recorded {recorded}"


def follow(client, request):
    """What a stream adds up to, and which events told of it, each kind once."""
    kinds = set()
    with client.chat.completions.stream(**request) as stream:
        try:
            for event in stream:
                kinds.add(event.type)
            final = stream.get_final_completion()
        except openai.LengthFinishReasonError as e:
            final = e.completion
    return final, kinds


schema = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Oslo"]}, "temperature": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["city", "temperature"],
    "additionalProperties": False,
}


def tool(name, strict):
    return {"type": "function", "function": {"name": name, "strict": strict, "parameters": schema}}


ask = {"messages": [{"role": "user", "content": "How is the weather?"}], "seed": 1, "max_completion_tokens": 400, "stream_options": {"include_usage": True}}
answer = {**ask, "response_format": {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": schema}}}
one = {**ask, "tool_choice": "required", "parallel_tool_calls": False}
free = {**ask, "max_completion_tokens": 30, "stop": ["e"]}
scenes = {
    "2018feb66ae1": {**one, "tools": [tool("get_weather", True)]},
    "7e5ea4d12e7c": answer,
    "83b060bae42e": {**free, "logprobs": True},
    "a247c49c5fcd": {**one, "tools": [tool("get_weather", True)]},
    "a491adda08c3": {**answer, "n": 3},
    "c6aa7e397b71": {**one, "tools": [tool("GetWeatherArgs", True)]},
    "e2aad469b71d": free,
    "f82268f2fefd": {**ask, "max_completion_tokens": 3000, "tool_choice": "required", "tools": [tool("GetWeatherArgs", True), tool("get_stock_price", True)]},
}
for name, request in scenes.items():
    recorded, recorded_kinds = follow(theirs, {**request, "model": name})
    our, our_kinds = follow(ours, {**request, "model": model})
    within(shape(recorded.to_dict()), shape(our.to_dict()), name)
    assert recorded_kinds == our_kinds, f"{name}: {our_kinds}, recorded {recorded_kinds}"
    assert {c.finish_reason for c in recorded.choices} == {c.finish_reason for c in our.choices}, name
