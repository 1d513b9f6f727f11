// OpenAI's recorded streams and ours through the same helper of the npm package
// openai: node replay.mjs BASE_URL MODEL RECORDED_URL
// The recorded one is asked for by its name as the model.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { LengthFinishReasonError } from 'openai/error';

const [baseURL, model, recordedURL] = process.argv.slice(2);
const options = { apiKey: 'none', maxRetries: 0 };
const ours = new OpenAI({ ...options, baseURL });
const theirs = new OpenAI({ ...options, baseURL: recordedURL });

// shape is a value with its texts and numbers left out.
function shape(v) {
  if (v === null) return 'null';
  if (Array.isArray(v)) return v.length === 0 ? ['nothing'] : [v.map(shape).reduce(merge)];
  if (typeof v !== 'object') return typeof v;
  // What was parsed has the shape of the schema, which is another there.
  return Object.fromEntries(Object.entries(v).filter(([, x]) => x !== undefined).map(([k, x]) => [k, k.startsWith('parsed') && x !== null ? 'parsed' : shape(x)]));
}

function merge(a, b) {
  if (typeof a !== 'object' || typeof b !== 'object') return a === 'null' ? b : a;
  return { ...a, ...Object.fromEntries(Object.entries(b).map(([k, x]) => [k, k in a ? merge(a[k], x) : x])) };
}

// within asserts that all that one shape has the other has too, and alike.
function within(recorded, our, path) {
  if (Array.isArray(recorded)) {
    assert.ok(Array.isArray(our), `${path} is no list`);
    return within(recorded[0], our[0], `${path}[]`);
  }
  if (typeof recorded !== 'object') return assert.equal(our, recorded, `${path} is ${our}, recorded ${recorded}`);
  for (const key of Object.keys(recorded)) {
    assert.ok(typeof our === 'object' && key in our, `${path}.${key} is not there`);
    within(recorded[key], our[key], `${path}.${key}`);
  }
}

// follow returns the shape of what a stream adds up to, and which events told of it.
async function follow(client, request) {
  const stream = client.chat.completions.stream(request);
  const kinds = new Set();
  for (const kind of ['content.delta', 'content.done', 'logprobs.content.delta', 'logprobs.content.done', 'tool_calls.function.arguments.delta', 'tool_calls.function.arguments.done']) {
    stream.on(kind, () => kinds.add(kind));
  }
  const raw = [];
  stream.on('chunk', (chunk) => raw.push(chunk));
  const final = await stream.finalChatCompletion().catch((e) => {
    if (e instanceof LengthFinishReasonError) return { cut: true };
    throw e;
  });
  // Of the chunks: the first, those between, the last with a choice, and the usage.
  const roles = raw.filter((c) => c.choices[0]?.delta.role).map((c) => c.choices[0].index);
  const ends = raw.filter((c) => c.choices[0]?.finish_reason).map((c) => c.choices[0]);
  return { final: shape(final), kinds: [...kinds].sort(), roles: roles.sort(), ends: shape(ends), last: shape(raw.at(-1)), reasons: [...new Set(ends.map((c) => c.finish_reason))] };
}

const messages = [{ role: 'user', content: 'How is the weather?' }];
const ask = { messages, seed: 1, max_completion_tokens: 400, stream_options: { include_usage: true } };
const schema = { type: 'object', properties: { city: { enum: ['Paris', 'Oslo'] }, temperature: { type: 'integer', minimum: 0, maximum: 9 } }, required: ['city', 'temperature'], additionalProperties: false };
const response_format = { type: 'json_schema', json_schema: { name: 'weather', strict: true, schema } };
const tool = (name, strict) => ({ type: 'function', function: { name, strict, parameters: schema } });
const free = { ...ask, max_completion_tokens: 30, stop: ['e'] };

const scenes = {
  '2018feb66ae1': { ...ask, tools: [tool('get_weather')], tool_choice: 'required', parallel_tool_calls: false },
  '4cc50a6135d2': { ...ask, response_format, max_completion_tokens: 4 },
  '7e5ea4d12e7c': { ...ask, response_format },
  '83b060bae42e': { ...free, logprobs: true },
  a247c49c5fcd: { ...ask, tools: [tool('get_weather', true)], tool_choice: 'required', parallel_tool_calls: false },
  a491adda08c3: { ...ask, response_format, n: 3 },
  c6aa7e397b71: { ...ask, tools: [tool('GetWeatherArgs', true)], tool_choice: 'required', parallel_tool_calls: false },
  d61558011839: free,
  e2aad469b71d: free,
  f82268f2fefd: { ...ask, max_completion_tokens: 3000, tools: [tool('GetWeatherArgs', true), tool('get_stock_price', true)], tool_choice: 'required' },
};
// 173417d55340 and 569c877e6942 are refusals: a local model has no way to send one.

for (const [name, request] of Object.entries(scenes)) {
  const recorded = await follow(theirs, { ...request, model: name });
  const mine = await follow(ours, { ...request, model });
  within(recorded.final, mine.final, name);
  within(recorded.last, mine.last, `${name}: the last chunk`);
  within(recorded.ends, mine.ends, `${name}: the chunks with a reason`);
  assert.deepEqual(mine.kinds, recorded.kinds, `${name}: events`);
  assert.deepEqual(mine.roles, recorded.roles, `${name}: roles`);
  assert.deepEqual(mine.reasons, recorded.reasons, `${name}: reasons`);
}
