"""Files and batches by the PyPI package openai: batches.py BASE_URL MODEL"""

import json
import sys
import time

import openai

base_url, model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)


def line(name, **body):
    body = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}], **body}
    return json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body})


def wait(batch):
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def begin(text):
    file = client.files.create(
        file=("lines.jsonl", text.encode()),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert file.expires_at - file.created_at == 3600 and file.bytes == len(text), file
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"run": "1"},
        output_expires_after={"anchor": "created_at", "seconds": 7200},
    )


batch = wait(begin("\n".join([line("a"), line("b"), line("streams", stream=True)])))
assert batch.status == "completed" and batch.metadata == {"run": "1"} and batch.model == model, batch
counts = batch.request_counts
assert (counts.total, counts.completed, counts.failed) == (3, 2, 1) and batch.usage.total_tokens > 0, batch
results = [json.loads(text) for text in client.files.content(batch.output_file_id).text.splitlines()]
assert sorted(result["custom_id"] for result in results) == ["a", "b"], results
assert results[0]["response"]["body"]["object"] == "chat.completion", results
failed = json.loads(client.files.content(batch.error_file_id).text)
assert failed["response"]["body"]["error"]["param"] == "stream", failed
output = client.files.retrieve(batch.output_file_id)
assert output.purpose == "batch_output" and output.expires_at - output.created_at == 7200, output

wrong = wait(begin(line("a") + "\n{"))
assert wrong.status == "failed" and wrong.errors.data[0].line == 2, wrong
try:
    client.batches.cancel(wrong.id)
    raise AssertionError("a batch at its end was cancelled")
except openai.BadRequestError as e:
    assert "failed" in str(e), e
assert [b.id for b in client.batches.list(limit=1)] == [wrong.id, batch.id], "pages of batches"

notes = client.files.create(file=("notes.txt", b"The sky is green."), purpose="user_data")
answer = client.chat.completions.create(
    model=model,
    max_tokens=8,
    messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": notes.id}}]}],
)
assert answer.choices[0].message.content is not None, answer
listed = [file.id for file in client.files.list(limit=2)]
assert listed[0] == notes.id and batch.output_file_id in listed, listed
for file in client.files.list():
    assert client.files.delete(file.id).deleted
assert not list(client.files.list())
try:
    client.files.retrieve(notes.id)
    raise AssertionError("a deleted file is there")
except openai.NotFoundError:
    pass
print("ok")
