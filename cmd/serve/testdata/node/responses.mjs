// The Responses API by the npm package openai: node responses.mjs BASE_URL MODEL
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
const ask = { model, instructions: 'be kind', input: 'tell the world', max_output_tokens: 24, temperature: 0 };

const whole = await client.responses.create(ask);
assert.equal(whole.status, 'incomplete');
assert.equal(whole.incomplete_details.reason, 'max_output_tokens');
assert.ok(whole.output_text.length > 0);
assert.equal(whole.usage.output_tokens, 24);

// The helper that keeps account of every event, and throws at what does not fit.
const stream = client.responses.stream(ask);
const types = [];
let numbers = 0;
for await (const event of stream) {
  types.push(event.type);
  assert.equal(event.sequence_number, numbers++);
}
const final = await stream.finalResponse();
assert.equal(final.output_text, whole.output_text);
assert.deepEqual(
  types.filter((t, i) => t !== types[i - 1]),
  ['response.created', 'response.in_progress', 'response.output_item.added', 'response.content_part.added', 'response.output_text.delta',
    'response.output_text.done', 'response.content_part.done', 'response.output_item.done', 'response.incomplete'],
);

// Text by a schema, parsed.
const Report = z.object({ city: z.enum(['Paris', 'Oslo']), warm: z.boolean() });
const report = await client.responses.parse({ model, input: 'How is the weather?', max_output_tokens: 200, text: { format: zodTextFormat(Report, 'report') } });
assert.equal(typeof report.output_parsed.warm, 'boolean');

// A call, and its result sent back with the whole conversation.
const tools = [zodResponsesFunction({ name: 'weather', parameters: Report })];
const input = [{ role: 'user', content: [{ type: 'input_text', text: 'How is the weather?' }] }];
const calling = client.responses.stream({ model, input, tools, tool_choice: 'required', parallel_tool_calls: false, max_output_tokens: 200, store: false });
let fragments = '';
calling.on('response.function_call_arguments.delta', (e) => (fragments += e.delta));
const called = await calling.finalResponse();
const call = called.output[0];
assert.equal(call.type, 'function_call');
assert.equal(call.name, 'weather');
assert.equal(fragments, call.arguments);
assert.equal(typeof call.parsed_arguments.warm, 'boolean');
const rest = { id: call.id, type: call.type, call_id: call.call_id, name: call.name, arguments: call.arguments, status: call.status };
const answer = await client.responses.create({ model, input: [...input, rest, { type: 'function_call_output', call_id: call.call_id, output: 'fine' }], tools, tool_choice: 'none', max_output_tokens: 8 });
assert.equal(answer.output[0].type, 'message');

await assert.rejects(client.responses.create({ ...ask, previous_response_id: 'resp_1' }), (e) => e instanceof OpenAI.BadRequestError && e.param === 'previous_response_id');
await assert.rejects(client.responses.create({ ...ask, model: 'absent' }), (e) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found');

// A conversation that the server keeps, read back, and deleted.
const one = await client.responses.create({ model, input: 'One', max_output_tokens: 8 });
const two = await client.responses.create({ model, input: 'Two', max_output_tokens: 8, previous_response_id: one.id });
assert.equal(two.previous_response_id, one.id);
assert.ok(two.usage.input_tokens > one.usage.input_tokens);
assert.deepEqual((await client.responses.retrieve(two.id)).output, two.output);
const items = [];
for await (const item of client.responses.inputItems.list(two.id, { limit: 1 })) items.push(item);
assert.equal(items.length, 1);
assert.equal(items[0].content[0].text, 'Two');
const count = await client.responses.inputTokens.count({ model, input: 'One' });
assert.equal(count.input_tokens, one.usage.input_tokens);
await client.responses.delete(one.id);
await assert.rejects(client.responses.retrieve(one.id), OpenAI.NotFoundError);

// In the background: fetched when it is done, or cancelled.
let later = await client.responses.create({ model, input: 'Later', max_output_tokens: 8, background: true });
assert.equal(later.status, 'in_progress');
while (later.status === 'in_progress') later = await client.responses.retrieve(later.id);
assert.equal(later.status, 'incomplete');
const long = await client.responses.create({ model, input: 'Long', background: true, max_output_tokens: 3000 });
assert.ok(['cancelled', 'incomplete', 'completed'].includes((await client.responses.cancel(long.id)).status));
