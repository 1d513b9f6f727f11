// Files and batches by the npm package openai: node batches.mjs BASE_URL MODEL
import assert from 'node:assert/strict';
import OpenAI, { toFile } from 'openai';

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });

const line = (name, fields = {}) => JSON.stringify({
  custom_id: name,
  method: 'POST',
  url: '/v1/responses',
  body: { model, input: 'tell the world', max_output_tokens: 16, ...fields },
});

// This client sends the file before the other fields of the form.
const begin = async (text) => {
  const file = await client.files.create({
    file: await toFile(Buffer.from(text), 'lines.jsonl'),
    purpose: 'batch',
    expires_after: { anchor: 'created_at', seconds: 3600 },
  });
  assert.equal(file.expires_at - file.created_at, 3600);
  assert.equal((await client.files.retrieve(file.id)).filename, 'lines.jsonl');
  return client.batches.create({ input_file_id: file.id, endpoint: '/v1/responses', completion_window: '24h' });
};
const end = async (batch) => {
  while (!['completed', 'failed', 'expired', 'cancelled'].includes(batch.status)) {
    await new Promise((done) => setTimeout(done, 50));
    batch = await client.batches.retrieve(batch.id);
  }
  return batch;
};

const batch = await end(await begin([line('a'), line('b'), line('c', { nonsense: 1 })].join('\n')));
assert.equal(batch.status, 'completed');
assert.deepEqual(batch.request_counts, { total: 3, completed: 2, failed: 1 });
const results = (await (await client.files.content(batch.output_file_id)).text()).trim().split('\n').map((l) => JSON.parse(l));
assert.deepEqual(results.map((r) => r.custom_id).sort(), ['a', 'b']);
const written = results.reduce((sum, r) => sum + r.response.body.usage.output_tokens, 0);
assert.ok(written > 0);
assert.equal(batch.usage.output_tokens, written);

// A result is a response as any other: it is kept, and another one goes on from it.
const kept = await client.responses.retrieve(results[0].response.body.id);
assert.equal(kept.service_tier, 'flex');
await client.responses.create({ model, input: 'more', previous_response_id: kept.id, max_output_tokens: 16 });
const failed = JSON.parse(await (await client.files.content(batch.error_file_id)).text());
assert.equal(failed.response.body.error.param, 'nonsense');

// Enough lines that some are left.
const long = await begin(Array.from({ length: 200 }, (_, i) => line(`${i}`, { max_output_tokens: 1000 })).join('\n'));
const cancelling = await client.batches.cancel(long.id);
assert.ok(['cancelling', 'cancelled'].includes(cancelling.status), cancelling.status);
assert.equal((await end(cancelling)).status, 'cancelled');
const ids = [];
for await (const b of client.batches.list({ limit: 1 })) ids.push(b.id);
assert.deepEqual(ids, [long.id, batch.id]);

const notes = await client.files.create({ file: await toFile(Buffer.from('The sky is green.'), 'notes.txt'), purpose: 'user_data' });
const read = await client.responses.create({
  model,
  max_output_tokens: 16,
  input: [{ role: 'user', content: [{ type: 'input_file', file_id: notes.id }] }],
});
assert.ok(read.output_text.length > 0);
const names = [];
for await (const file of client.files.list({ purpose: 'user_data' })) names.push(file.id);
assert.deepEqual(names, [notes.id]);
assert.ok((await client.files.delete(notes.id)).deleted);
await assert.rejects(client.files.retrieve(notes.id), OpenAI.NotFoundError);
