"""Images through the package openai: images.py BASE_URL MODEL

The model is random, so what it says of them means nothing; that it differs does.
"""
import sys

import openai

base_url, model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)

# PNGs of a few pixels.
one = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAKElEQVR42h3JQQ0AMBDDMEMsxEIshJ32ixwIZX4mGjs7TLV293ams3kpww8By1ZmMQAAAABJRU5ErkJggg=="
two = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAALUlEQVR42g3HQQEAQAQAsDVQTQPVNFBNA3f7zTEUgZMjS4b86dGlQ//s2LJhH2ETD/FLKGPAAAAAAElFTkSuQmCC"


def ask(url):
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Tell me."}]
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_completion_tokens": 12, "temperature": 0}


first = client.chat.completions.create(**ask(one)).choices[0].message.content
assert client.chat.completions.create(**ask(one)).choices[0].message.content == first
assert client.chat.completions.create(**ask(two)).choices[0].message.content != first
with client.chat.completions.stream(**ask(one)) as stream:
    assert "".join(event.delta for event in stream if event.type == "content.delta") == first

content = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": one, "detail": "auto"}]
response = client.responses.create(model=model, input=[{"role": "user", "content": content}], max_output_tokens=8)
following = client.responses.create(model=model, input="And now?", previous_response_id=response.id, max_output_tokens=8)
assert following.usage.input_tokens_details.cached_tokens > 16, following
assert client.responses.input_items.list(response.id).data[0].content[1].image_url == one

try:
    client.chat.completions.create(**ask("data:image/png;base64,AAAA"))
    raise AssertionError("looked at what is no image")
except openai.BadRequestError as e:
    assert e.code == "image_parse_error", e
