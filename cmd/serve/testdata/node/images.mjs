// Images through the npm package openai: node images.mjs BASE_URL MODEL
// The model is random, so what it says of them means nothing; that it differs does.
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });

// PNGs of a few pixels.
const one = 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAKElEQVR42h3JQQ0AMBDDMEMsxEIshJ32ixwIZX4mGjs7TLV293ams3kpww8By1ZmMQAAAABJRU5ErkJggg==';
const two = 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAALUlEQVR42g3HQQEAQAQAsDVQTQPVNFBNA3f7zTEUgZMjS4b86dGlQ//s2LJhH2ETD/FLKGPAAAAAAElFTkSuQmCC';
const ask = (url, detail) => ({
  model,
  messages: [{ role: 'user', content: [{ type: 'text', text: 'What is this?' }, { type: 'image_url', image_url: { url, detail } }, { type: 'text', text: 'Tell me.' }] }],
  max_completion_tokens: 12,
  temperature: 0,
});

const first = await client.chat.completions.create(ask(one, 'auto'));
const again = await client.chat.completions.create(ask(one, 'low'));
const other = await client.chat.completions.create(ask(two, 'high'));
const text = (c) => c.choices[0].message.content;
assert.equal(text(again), text(first));
assert.notEqual(text(other), text(first));
const blank = { ...ask(one), messages: [{ role: 'user', content: 'What is this?Tell me.' }] };
assert.ok(first.usage.prompt_tokens >= (await client.chat.completions.create(blank)).usage.prompt_tokens + 16);

const stream = client.chat.completions.stream(ask(one));
assert.equal(await stream.finalContent(), text(first));

const input = [{ role: 'user', content: [{ type: 'input_text', text: 'What is this?' }, { type: 'input_image', image_url: one, detail: 'auto' }] }];
const response = await client.responses.create({ model, input, max_output_tokens: 8 });
const next = await client.responses.create({ model, input: 'And now?', previous_response_id: response.id, max_output_tokens: 8 });
assert.ok(next.usage.input_tokens > response.usage.input_tokens);
assert.ok(next.usage.input_tokens_details.cached_tokens > 16);
for await (const item of client.responses.inputItems.list(response.id)) assert.equal(item.content[1].image_url, one);

const wrong = async (url, code) =>
  assert.rejects(client.chat.completions.create(ask(url)), (e) => e instanceof OpenAI.BadRequestError && e.code === code && e.param === 'messages[0].content[1].image_url.url');
await wrong('https://example.com/cat.png', 'invalid_image_url');
await wrong('data:image/png;base64,AAAA', 'image_parse_error');
