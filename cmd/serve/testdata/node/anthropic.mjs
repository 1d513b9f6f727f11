// Anthropic's API by the npm package @anthropic-ai/sdk: node anthropic.mjs BASE_URL MODEL
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';

const [baseURL, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey: 'none', maxRetries: 0 });
const messages = [{ role: 'user', content: 'How is the weather?' }];
const ask = { model, messages, max_tokens: 40, temperature: 0 };

// A whole answer, and the same as a stream.
const { data: whole, response } = await client.messages.create(ask).withResponse();
assert.match(response.headers.get('request-id'), /^req_/);
assert.match(whole.id, /^msg_/);
assert.equal(whole._request_id, response.headers.get('request-id'));
assert.equal(whole.type, 'message');
assert.equal(whole.role, 'assistant');
assert.equal(whole.model, model);
assert.equal(whole.content[0].type, 'text');
assert.equal(whole.stop_reason, 'max_tokens');
assert.equal(whole.stop_sequence, null);
assert.ok(whole.usage.input_tokens > 0 && whole.usage.output_tokens === 40);

const stream = client.messages.stream(ask);
const seen = [];
let text = '';
stream.on('streamEvent', (e) => seen.push(e.type));
stream.on('text', (delta) => (text += delta));
const streamed = await stream.finalMessage();
assert.deepEqual(streamed.content, whole.content);
assert.equal(text, whole.content[0].text);
assert.equal(streamed.stop_reason, 'max_tokens');
assert.equal(streamed.usage.output_tokens, 40);
const { input_tokens: fresh, cache_read_input_tokens: read } = streamed.usage;
assert.ok(read > 0, 'nothing is read from the cache');
assert.equal(fresh + read, whole.usage.input_tokens + whole.usage.cache_read_input_tokens);
assert.deepEqual([seen[0], seen.at(-2), seen.at(-1)], ['message_start', 'message_delta', 'message_stop']);

// A stream of raw events, which is left in the middle.
for await (const event of await client.messages.create({ ...ask, max_tokens: 400, stream: true })) {
  if (event.type === 'content_block_delta') break;
}

// Tools: any, one, none; the input is what the schema allows.
const tools = ['weather', 'tides'].map((name) => ({
  name,
  description: `says the ${name}`,
  strict: true,
  input_schema: {
    type: 'object',
    properties: { city: { enum: ['Paris', 'Oslo'] }, celsius: { type: 'boolean' } },
    required: ['city', 'celsius'],
    additionalProperties: false,
  },
}));
const withTools = { ...ask, max_tokens: 400, tools };
for (const [choice, name] of [
  [{ type: 'any', disable_parallel_tool_use: true }, /^(weather|tides)$/],
  [{ type: 'tool', name: 'tides', disable_parallel_tool_use: true }, /^tides$/],
]) {
  const called = client.messages.stream({ ...withTools, tool_choice: choice });
  let json = '';
  called.on('inputJson', (delta) => (json += delta));
  const answer = await called.finalMessage();
  assert.equal(answer.stop_reason, 'tool_use');
  const calls = answer.content.filter((b) => b.type === 'tool_use');
  assert.equal(calls.length, 1);
  assert.match(calls[0].name, name);
  assert.ok(['Paris', 'Oslo'].includes(calls[0].input.city));
  assert.equal(typeof calls[0].input.celsius, 'boolean');
  assert.deepEqual(JSON.parse(json), calls[0].input);

  const same = await client.messages.create({ ...withTools, tool_choice: choice });
  assert.deepEqual(same.content.map((b) => b.input), answer.content.map((b) => b.input));

  // The result goes back, and the answer goes on.
  const next = await client.messages.create({
    ...ask,
    tools,
    tool_choice: { type: 'none' },
    messages: [
      ...messages,
      { role: 'assistant', content: answer.content },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: calls[0].id, content: [{ type: 'text', text: 'fine' }] }] },
    ],
  });
  assert.equal(next.content[0].type, 'text');
}

// An answer by a schema.
const schema = {
  type: 'object',
  properties: { city: { enum: ['Paris', 'Oslo'] }, days: { type: 'array', items: { type: 'boolean' }, maxItems: 3 } },
  required: ['city', 'days'],
  additionalProperties: false,
};
const parsed = await client.messages.create({
  ...ask,
  max_tokens: 400,
  output_config: { effort: 'low', format: { type: 'json_schema', schema } },
});
assert.ok(['Paris', 'Oslo'].includes(JSON.parse(parsed.content[0].text).city));

// Beta clients add a query and headers.
const beta = await client.beta.messages.create({
  ...ask,
  betas: ['context-management-2025-06-27'],
  system: [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral' } }],
  thinking: { type: 'disabled' },
  metadata: { user_id: 'u' },
  context_management: { edits: [] },
});
assert.equal(beta.type, 'message');

// Tokens are counted as they are used.
const count = await client.messages.countTokens({ model, messages });
assert.equal(count.input_tokens, whole.usage.input_tokens + whole.usage.cache_read_input_tokens);

// Models, page by page.
const ids = [];
for await (const m of client.models.list({ limit: 1 })) ids.push(m.id);
assert.ok(ids.includes(model));
assert.equal((await client.models.retrieve(model)).display_name, model);

// Errors are of the classes that the client has for them.
await assert.rejects(client.messages.create({ ...ask, model: 'x' }), (e) => {
  assert.ok(e instanceof Anthropic.NotFoundError);
  assert.equal(e.error.error.type, 'not_found_error');
  return /^req_/.test(e.requestID);
});
await assert.rejects(client.messages.create({ ...ask, max_tokens: 0 }), Anthropic.BadRequestError);
await assert.rejects(
  client.messages.create({ ...ask, messages: [{ role: 'user', content: 'word '.repeat(9000) }] }),
  (e) => e instanceof Anthropic.BadRequestError && /prompt is too long: \d+ tokens > \d+ maximum/.test(e.message),
);
await assert.rejects(client.messages.batches.list(), (e) => e instanceof Anthropic.NotFoundError && e.error.type === 'error');

// Old results of tools are removed, and the answer and the count say so.
const use = (id) => [
  { role: 'assistant', content: [{ type: 'tool_use', id, name: 'look', input: {} }] },
  { role: 'user', content: [{ type: 'tool_result', tool_use_id: id, content: 'word '.repeat(60) }] },
];
const edited = {
  model,
  messages: [{ role: 'user', content: 'Look.' }, ...use('toolu_1'), ...use('toolu_2')],
  tools: [{ name: 'look', input_schema: { type: 'object' } }],
  tool_choice: { type: 'none' },
  betas: ['context-management-2025-06-27'],
  context_management: {
    edits: [{ type: 'clear_tool_uses_20250919', trigger: { type: 'tool_uses', value: 1 }, keep: { type: 'tool_uses', value: 1 } }],
  },
};
const managed = await client.beta.messages.create({ ...edited, max_tokens: 8 });
const [done] = managed.context_management.applied_edits;
assert.equal(done.cleared_tool_uses, 1);
assert.ok(done.cleared_input_tokens > 0);
const managing = client.beta.messages.stream({ ...edited, max_tokens: 8 });
assert.deepEqual((await managing.finalMessage()).context_management, managed.context_management);
const counted = await client.beta.messages.countTokens(edited);
assert.equal(counted.context_management.original_input_tokens - counted.input_tokens, done.cleared_input_tokens);
