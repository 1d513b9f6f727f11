"""Drives every method of Ollama's own client for Python, and LangChain's."""
import asyncio
import base64
import sys

import ollama
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel

url, model, stored, vision = sys.argv[1:5]
client = ollama.Client(host=url)
messages = [{"role": "user", "content": "How is the weather?"}]
few = {"num_predict": 8, "temperature": 0, "seed": 1}


class Answer(BaseModel):
    color: str
    count: int


def weather(city: str, days: int = 1) -> str:
    """Tells the weather.

    Args:
      city: where
      days: of the forecast
    """
    return f"sunny in {city}"


def fails(status, call):
    try:
        call()
    except ollama.ResponseError as e:
        assert e.status_code == status and e.error, (e.status_code, e.error)
        return
    raise AssertionError("no error")


# Lists.
names = [m.model for m in client.list().models]
assert model + ":latest" in names and stored in names, names
for m in client.list().models:
    assert len(m.digest) == 64 and m.size > 0 and m.modified_at and m.details.family and m.details.parameter_size, m
shown = client.show(model)
assert "completion" in shown.capabilities and shown.modelinfo["general.architecture"] and shown.details.format == "gguf", shown
assert shown.template and shown.parameters and shown.modified_at, shown

# Chats: whole and in pieces are the same.
whole = client.chat(model, messages, options=few)
assert whole.done and whole.done_reason == "length" and whole.eval_count == 8, whole
assert whole.total_duration and whole.load_duration and whole.prompt_eval_count and whole.prompt_eval_duration and whole.eval_duration
pieces = list(client.chat(model, messages, options=few, stream=True))
assert "".join(p.message.content for p in pieces) == whole.message.content, (pieces, whole)
assert pieces[-1].done and not any(p.done for p in pieces[:-1])
probable = client.chat(model, messages, options=few, logprobs=True, top_logprobs=2)
assert len(probable.logprobs) == 8 and len(probable.logprobs[0].top_logprobs) == 2, probable

formed = client.chat(model, messages, format=Answer.model_json_schema(), options={"num_predict": 400, "seed": 1, "temperature": 1})
if formed.done_reason == "stop":
    Answer.model_validate_json(formed.message.content)
client.chat(model, messages, format="json", options=few)
client.chat(model, messages, think=False, keep_alive="5m", options=few)

# Tools: offered, and a call with its result in the history.
client.chat(model, messages, tools=[weather], options=few)
history = messages + [
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]},
    {"role": "tool", "tool_name": "weather", "content": "sunny"},
]
client.chat(model, history, tools=[weather], options=few)

# Generate.
said = client.generate(model, "Why is the sky blue?", system="Be brief.", options=few)
assert said.done and said.context and said.eval_count == 8, said
again = client.generate(model, "And the sea?", context=said.context, options=few)
assert len(again.context) > len(said.context)
text = "".join(p.response for p in client.generate(model, "Why is the sky blue?", system="Be brief.", options=few, stream=True))
assert text == said.response, (text, said)
raw = client.generate(model, "the man", raw=True, options=few)
assert raw.context is None and raw.done, raw
fails(400, lambda: client.generate(model, "x", suffix="y"))
fails(400, lambda: client.generate(model, "x", template="{{ .Prompt }}"))

# Images, as bytes, a path's content in base64, and refused by a model without a projector.
pixel = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
seen = [{"role": "user", "content": "What?", "images": [pixel]}]
fails(400, lambda: client.chat(model, seen, options=few))
if vision != "none":
    assert client.chat(vision, seen, options=few).done
    assert client.generate(vision, "What?", images=[base64.b64encode(pixel).decode()], options=few).done

# Embeddings.
two = client.embed(model, ["a b c", "d"])
assert len(two.embeddings) == 2 and two.prompt_eval_count > 0 and two.total_duration, two
one = client.embed(model, "a b c", dimensions=4)
assert len(one.embeddings[0]) == 4
old = client.embeddings(model, "a b c")
assert max(abs(a - b) for a, b in zip(old.embedding, two.embeddings[0])) < 1e-3

# Memory: loaded, kept, unloaded.
assert client.generate(model, keep_alive=-1).done_reason == "load"
loaded = client.ps().models[0]
assert loaded.expires_at.year > 2100 and loaded.size > 0 and loaded.context_length > 0 and len(loaded.digest) == 64, loaded
assert client.chat(model, [], keep_alive=0).done_reason == "unload"

# Models: another name, a download with progress, and what is not served.
assert client.copy(model, "mine").status == "success"
assert client.chat("mine", messages, options=few).model == "mine"
assert client.delete("mine").status == "success"
fails(404, lambda: client.chat("mine", messages))
fails(400, lambda: client.delete(model))
progress = list(client.pull(stored, stream=True))
assert progress[0].status == "pulling manifest" and progress[-1].status == "success", progress
assert client.pull(stored).status == "success"
fails(404, lambda: client.pull("nothing-of-that-name"))
assert client.chat(stored, messages, options=few).done
fails(501, lambda: client.push(model))
fails(501, lambda: client.create("x", from_=model))
fails(404, lambda: client.show("nothing"))
fails(400, lambda: client.chat(model, [{"role": "user", "content": "x " * 5000}]))
fails(400, lambda: client.chat(model, messages, options={"top_k": "many"}))


async def asynchronous():
    c = ollama.AsyncClient(host=url)
    assert (await c.chat(model, messages, options=few)).message.content == whole.message.content
    said = ""
    async for p in await c.chat(model, messages, options=few, stream=True):
        said += p.message.content
    assert said == whole.message.content
    assert (await c.embed(model, "a b c")).embeddings
    assert (await c.list()).models and (await c.ps()).models and (await c.show(model)).capabilities


asyncio.run(asynchronous())


# LangChain.
@tool
def clock(zone: str) -> str:
    """Tells the time."""
    return "noon in " + zone


llm = ChatOllama(model=model, base_url=url, num_predict=8, temperature=0, seed=1, validate_model_on_init=True)
answer = llm.invoke("How is the weather?")
assert answer.content == whole.message.content and answer.usage_metadata["output_tokens"] == 8, answer
assert "".join(c.content for c in llm.stream("How is the weather?")) == answer.content
asked = llm.bind_tools([clock]).invoke("What time is it?")
called = asked.model_copy(update={"tool_calls": [{"name": "clock", "args": {"zone": "CET"}, "id": "c1", "type": "tool_call"}]})
llm.bind_tools([clock]).invoke([HumanMessage("What time is it?"), called, ToolMessage("noon", tool_call_id="c1")])
llm.with_structured_output(Answer, include_raw=True).invoke("How is the weather?")
assert OllamaLLM(model=model, base_url=url, num_predict=4).invoke("the man")
vectors = OllamaEmbeddings(model=model, base_url=url).embed_documents(["a b c", "d"])
assert len(vectors) == 2 and max(abs(a - b) for a, b in zip(vectors[0], two.embeddings[0])) < 1e-3
print("ok")
