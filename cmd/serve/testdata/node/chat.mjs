// The npm package openai as a client of a running server: node chat.mjs BASE_URL MODEL
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
const ask = {
  model,
  messages: [{ role: 'developer', content: 'be kind' }, { role: 'user', content: [{ type: 'text', text: 'tell the world' }] }],
  max_completion_tokens: 24,
  temperature: 0,
};

const whole = await client.chat.completions.create(ask);
assert.ok(whole.choices[0].message.content.length > 0);
assert.equal(whole.choices[0].message.refusal, null);
assert.equal(whole.choices[0].finish_reason, 'length');
assert.equal(whole.usage.completion_tokens, 24);
assert.match(whole._request_id, /^req_/);

let text = '';
let roles = 0;
let usage;
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })) {
  const delta = chunk.choices[0]?.delta;
  text += delta?.content ?? '';
  roles += delta?.role ? 1 : 0;
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(roles, 1);
assert.equal(usage.total_tokens, whole.usage.total_tokens);

// The helper that keeps account of every chunk, and throws at what does not fit.
const helper = client.chat.completions.stream({ ...ask, n: 2, logprobs: true, top_logprobs: 2 });
const final = await helper.finalChatCompletion();
assert.equal(final.choices.length, 2);
for (const choice of final.choices) {
  assert.equal(choice.message.content, text);
  assert.equal(choice.logprobs.content.length, 24);
}

const completion = await client.completions.create({ model, prompt: ['the man', 'the world'], max_tokens: 4, temperature: 0, logprobs: 2 });
assert.deepEqual(completion.choices.map((c) => c.index), [0, 1]);
assert.equal(completion.choices[0].logprobs.tokens.length, 4);

// Asked for nothing, the client sends base64 and decodes it.
const embeddings = await client.embeddings.create({ model, input: ['the man', 'the world'] });
assert.equal(embeddings.data[1].embedding.length, 64);
const floats = await client.embeddings.create({ model, input: 'the man', encoding_format: 'float' });
floats.data[0].embedding.forEach((f, i) => assert.ok(Math.abs(f - embeddings.data[0].embedding[i]) < 1e-6));

assert.equal((await client.models.retrieve(model)).id, model);
const ids = [];
for await (const m of client.models.list()) ids.push(m.id);
assert.deepEqual(ids, [model]);

await assert.rejects(client.chat.completions.create({ ...ask, model: 'absent' }), (e) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found');
await assert.rejects(client.chat.completions.create({ ...ask, temperature: 9 }), (e) => e instanceof OpenAI.BadRequestError && e.param === 'temperature');
await assert.rejects(client.chat.completions.create({ ...ask, messages: [{ role: 'user', content: 'the world '.repeat(2000) }] }), (e) => e.code === 'context_length_exceeded');

// A client that leaves in the middle is no trouble to the next.
const left = await client.chat.completions.create({ ...ask, max_completion_tokens: 400, stream: true });
for await (const _ of left) break;
assert.equal((await client.chat.completions.create(ask)).choices[0].message.content, text);
