// Tools and structured output by the npm package openai: node tools.mjs BASE_URL MODEL
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
const messages = [{ role: 'user', content: 'How is the weather?' }];

// An answer by a schema, parsed.
const Report = z.object({ city: z.enum(['Paris', 'Oslo']), days: z.array(z.object({ warm: z.boolean(), wind: z.union([z.enum(['N', 'S']), z.null()]) })) });
const answer = await client.chat.completions.parse({ model, messages, seed: 1, max_completion_tokens: 400, response_format: zodResponseFormat(Report, 'report') });
assert.ok(['Paris', 'Oslo'].includes(answer.choices[0].message.parsed.city));

// A strict tool, parsed as it streams.
const Weather = z.object({ city: z.enum(['Paris', 'Oslo']), celsius: z.boolean() });
const ask = { model, messages, seed: 2, max_completion_tokens: 400, tool_choice: 'required', parallel_tool_calls: false };
const stream = client.chat.completions.stream({ ...ask, tools: [zodFunction({ name: 'weather', parameters: Weather })] });
const deltas = [];
stream.on('tool_calls.function.arguments.delta', (e) => deltas.push(e.arguments_delta));
let done;
stream.on('tool_calls.function.arguments.done', (e) => (done = e));
const final = await stream.finalChatCompletion();
const call = final.choices[0].message.tool_calls[0];
assert.equal(final.choices[0].finish_reason, 'tool_calls');
assert.equal(call.function.name, 'weather');
assert.equal(deltas.join(''), call.function.arguments);
assert.equal(done.name, 'weather');
assert.equal(typeof call.function.parsed_arguments.celsius, 'boolean');

// The helper that runs the tool and sends its result back.
let ran = 0;
const runner = client.chat.completions.runTools(
  { ...ask, tools: [zodFunction({ name: 'weather', parameters: Weather, function: ({ city }) => ((ran += 1), `fine in ${city}`) })] },
  { maxChatCompletions: 2 },
);
await runner.done().catch(() => {});
assert.equal(ran, 2);
const roles = runner.messages.map((m) => m.role);
assert.deepEqual(roles.slice(0, 4), ['user', 'assistant', 'tool', 'assistant']);

// What cannot be enforced is refused under strict.
await assert.rejects(
  client.chat.completions.create({ ...ask, response_format: { type: 'json_schema', json_schema: { name: 'x', strict: true, schema: { type: 'array', uniqueItems: true } } } }),
  (e) => e instanceof OpenAI.BadRequestError && e.code === 'invalid_json_schema' && /uniqueItems/.test(e.message),
);
