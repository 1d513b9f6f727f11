"""Conversations that the server keeps, by the PyPI package openai: conversations.py BASE_URL MODEL"""

import sys

import openai

base_url, model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)


def text(item):
    return "".join(part.text for part in item.content)


chat = client.conversations.create(metadata={"topic": "a"}, items=[{"role": "developer", "content": "Be kind."}])
assert client.conversations.retrieve(chat.id).metadata == {"topic": "a"}
assert client.conversations.update(chat.id, metadata={"topic": "b"}).metadata == {"topic": "b"}

added = client.conversations.items.create(chat.id, items=[{"role": "user", "content": "Zero"}])
assert text(client.conversations.items.retrieve(added.data[0].id, conversation_id=chat.id)) == "Zero"
assert client.conversations.items.delete(added.data[0].id, conversation_id=chat.id).id == chat.id

one = client.responses.create(model=model, input="One", max_output_tokens=8, conversation=chat.id)
assert one.conversation.id == chat.id, one
with client.responses.stream(model=model, input="Two", max_output_tokens=8, conversation={"id": chat.id}) as stream:
    two = list(stream)[-1].response
listed = [(item.role, text(item)) for item in client.conversations.items.list(chat.id, order="asc", limit=2)]
assert listed == [
    ("developer", "Be kind."),
    ("user", "One"),
    ("assistant", one.output_text),
    ("user", "Two"),
    ("assistant", two.output_text),
], listed

assert client.conversations.delete(chat.id).deleted
try:
    client.responses.create(model=model, input="x", conversation=chat.id)
    raise AssertionError("went on from a conversation that is deleted")
except openai.NotFoundError as e:
    assert e.param == "conversation", e

compacted = client.responses.create(
    model=model,
    input=[
        {"role": "user", "content": "word " * 300},
        {"role": "assistant", "content": "Fine."},
        {"role": "user", "content": "Next?"},
    ],
    context_management=[{"type": "compaction", "compact_threshold": 200}],
    max_output_tokens=8,
)
assert [item.type for item in compacted.output] == ["compaction", "message"], compacted
