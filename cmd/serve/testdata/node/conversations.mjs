// Conversations that the server keeps, by the npm package openai: node conversations.mjs BASE_URL MODEL
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
const text = (item) => item.content.map((part) => part.text).join('');

let chat = await client.conversations.create({ metadata: { topic: 'a' }, items: [{ role: 'developer', content: 'Be kind.' }] });
assert.match(chat.id, /^conv_/);
assert.deepEqual((await client.conversations.retrieve(chat.id)).metadata, { topic: 'a' });
chat = await client.conversations.update(chat.id, { metadata: { topic: 'b' } });
assert.deepEqual(chat.metadata, { topic: 'b' });

const added = await client.conversations.items.create(chat.id, { items: [{ role: 'user', content: 'Zero' }] });
assert.equal(text(added.data[0]), 'Zero');
assert.equal((await client.conversations.items.retrieve(added.data[0].id, { conversation_id: chat.id })).role, 'user');
assert.equal((await client.conversations.items.delete(added.data[0].id, { conversation_id: chat.id })).id, chat.id);

// Two responses, the second streamed; the pages of the list are joined by the SDK.
const ask = { model, max_output_tokens: 8, temperature: 0 };
const one = await client.responses.create({ ...ask, input: 'One', conversation: chat.id });
assert.deepEqual(one.conversation, { id: chat.id });
const stream = client.responses.stream({ ...ask, input: 'Two', conversation: { id: chat.id } });
const two = await stream.finalResponse();
assert.ok(two.usage.input_tokens > one.usage.input_tokens);
const items = [];
for await (const item of client.conversations.items.list(chat.id, { order: 'asc', limit: 2 })) items.push([item.role, text(item)]);
assert.deepEqual(items, [['developer', 'Be kind.'], ['user', 'One'], ['assistant', one.output_text], ['user', 'Two'], ['assistant', two.output_text]]);

// One at a time: of two that are sent together, the one that comes first.
const long = { model, input: 'Long', background: true, max_output_tokens: 3000, conversation: chat.id };
const both = await Promise.allSettled([client.responses.create(long), client.responses.create(long)]);
const [begun] = both.filter((r) => r.status === 'fulfilled').map((r) => r.value);
const [refused] = both.filter((r) => r.status === 'rejected').map((r) => r.reason);
assert.ok(refused instanceof OpenAI.BadRequestError && refused.code === 'conversation_locked' && refused.param === 'conversation', refused);
await client.responses.cancel(begun.id);

await client.conversations.delete(chat.id);
await assert.rejects(client.conversations.retrieve(chat.id), OpenAI.NotFoundError);
await assert.rejects(client.responses.create({ ...ask, input: 'x', conversation: chat.id }), OpenAI.NotFoundError);
await client.responses.retrieve(one.id);

// A conversation that is too long is compacted before it is answered, streamed or not.
const input = [
  { role: 'user', content: 'word '.repeat(300) },
  { role: 'assistant', content: 'Fine.' },
  { role: 'user', content: 'Next?' },
];
const context_management = [{ type: 'compaction', compact_threshold: 200 }];
const compacting = client.responses.stream({ ...ask, input, context_management });
const types = [];
for await (const event of compacting) if (event.type === 'response.output_item.done') types.push(event.item.type);
const compacted = await compacting.finalResponse();
assert.deepEqual(types, ['compaction', 'message']);
assert.deepEqual(compacted.output.map((item) => item.type), types);
const next = await client.responses.create({ ...ask, input: [...compacted.output, { role: 'user', content: 'More?' }] });
assert.ok(next.usage.input_tokens < 250, `${next.usage.input_tokens}`);
