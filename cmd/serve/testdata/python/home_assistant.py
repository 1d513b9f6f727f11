"""Does what Home Assistant's Ollama integration does with Ollama's client: it lists and pulls models, asks every 30 seconds
which are loaded, answers in pieces with tools until none is called, and fills in forms."""
import asyncio
import json
import ssl
import sys

import ollama

scripted, url, model, stored = sys.argv[1:5]
verified = ssl.create_default_context()

# What Home Assistant sets unless its user changes it: the model stays loaded, and the window is 8,192 tokens.
defaults = {"keep_alive": "-1s", "options": {"num_ctx": 8192}}
tool = {
    "type": "function",
    "function": {
        "name": "HassTurnOn",
        "description": "Turns on/opens/presses a device or entity.",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "area": {"type": "string"},
                "domain": {"type": "array", "items": {"type": "string"}},
            },
            "required": [],
        },
    },
}
# A tool without parameters.
context = {"type": "function", "function": {"name": "GetLiveContext", "parameters": {"type": "object", "properties": {}, "required": []}}}


async def answer(client, name, history, **settings):
    """Returns the message that an answer in pieces makes."""
    said = ollama.Message(role="assistant", content="", thinking="", tool_calls=[])
    done = False
    async for piece in await client.chat(model=name, messages=list(history), stream=True, **defaults, **settings):
        assert not done, piece
        done = piece["done"]
        message = piece["message"]
        said.content += message.get("content") or ""
        said.thinking += message.get("thinking") or ""
        said.tool_calls.extend(message.get("tool_calls") or [])
    assert done
    return said


async def converse(client):
    """A conversation in which the model asks for the devices, turns two on in one answer, and tells."""
    history = [
        ollama.Message(role="system", content="You are a voice assistant for Home Assistant."),
        ollama.Message(role="user", content="Turn on the lights."),
    ]
    calls = []
    for think in (None, False, False):
        said = await answer(client, "fake", history, tools=[tool, context], think=think, format=None)
        history.append(ollama.Message(
            role="assistant",
            content=said.content,
            thinking=said.thinking or None,
            tool_calls=said.tool_calls or None,
        ))
        if not said.tool_calls:
            break
        # Results come without the names of their tools and without IDs.
        for called in said.tool_calls:
            calls.append((called["function"]["name"], called["function"]["arguments"]))
            history.append(ollama.Message(role="tool", content=json.dumps({"success": True, "of": called["function"]["name"]})))
    assert said.content == "Both lights are on.", said
    assert calls == [
        ("GetLiveContext", {}),
        ("HassTurnOn", {"name": "Kitchen"}),
        ("HassTurnOn", {"name": "Hall", "domain": ["light"]}),
    ], calls

    # The next thing that the user says.
    history.append(ollama.Message(role="user", content="Thanks!"))
    said = await answer(client, "fake", history, tools=[tool, context], think=False, format=None)
    assert said.content == "You are welcome." and not said.tool_calls, said


async def fill(client):
    """A form as an AI task has it: the model's answer is held to it."""
    form = {
        "type": "object",
        "properties": {"count": {"type": "integer"}, "color": {"type": "string", "enum": ["red", "green"]}},
        "required": ["count", "color"],
    }
    history = [ollama.Message(role="user", content="How many, and of which color?")]
    said = await answer(client, model, history, tools=None, think=None, format=form)
    got = json.loads(said.content)
    assert isinstance(got["count"], int) and got["color"] in ("red", "green"), got


async def main():
    client = ollama.AsyncClient(host=scripted, verify=verified)
    await converse(client)

    client = ollama.AsyncClient(host=url, verify=verified)
    names = {m["model"] for m in (await client.list()).get("models", [])}
    assert model + ":latest" in names and stored in names, names
    await client.pull(stored)
    await fill(client)
    # It has stayed, and says what a sensor shows.
    loaded = {m.model: m for m in (await client.ps()).models}
    of = loaded[model + ":latest"]
    assert of.size and of.size_vram is not None and of.expires_at.year > 2100, of
    shown = await client.show(model)
    assert "completion" in shown.capabilities and shown.details.family, shown


asyncio.run(main())
print("ok")
