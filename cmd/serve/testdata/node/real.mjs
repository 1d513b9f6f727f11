// A real model by the npm package openai: node real.mjs BASE_URL MODEL
// It knows something, so what it says is judged, and not the shape of it alone.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
const system = 'Complete the sentence of the user.';
const question = 'The capital of France is';
const messages = [{ role: 'system', content: system }, { role: 'user', content: question }];
const ask = { model, messages, temperature: 0, max_completion_tokens: 32 };

const whole = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 3 });
const [choice] = whole.choices;
const text = choice.message.content;
const tokens = choice.logprobs.content;
assert.match(text, /Paris/);
assert.equal(choice.finish_reason, 'stop');
assert.equal(tokens.map((t) => t.token).join(''), text);
for (const t of tokens) {
  assert.equal(t.top_logprobs[0].token, t.token);
  assert.ok(t.top_logprobs.reduce((sum, x) => sum + Math.exp(x.logprob), 0) <= 1.0001);
}
assert.equal(whole.usage.completion_tokens, tokens.length);
assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);

const stream = client.chat.completions.stream({ ...ask, stream_options: { include_usage: true } });
assert.equal(await stream.finalContent(), text);
assert.equal((await stream.totalUsage()).total_tokens, whole.usage.total_tokens);

const answer = { model, instructions: system, input: question, temperature: 0, max_output_tokens: 32 };
const response = await client.responses.create(answer);
assert.equal(response.output_text, text);
assert.equal(response.status, 'completed');
assert.equal(response.usage.total_tokens, whole.usage.total_tokens);
assert.equal((await client.responses.stream(answer).finalResponse()).output_text, text);

const known = 'The capital of France is';
const completion = await client.completions.create({ model, prompt: known, temperature: 0, max_tokens: 1, logprobs: 2, echo: true });
assert.equal(completion.choices[0].text, `${known} Paris`);
assert.equal(completion.choices[0].logprobs.token_logprobs[0], null);
assert.equal(completion.usage.completion_tokens, 1);

// What it is too small for by itself: a tool, and a schema.
const Forecast = z.object({ city: z.enum(['Paris', 'Oslo', 'Rome']), days: z.number().int().min(1).max(7) });
const weather = { model, messages: [{ role: 'user', content: 'How will the weather be in Rome for the next two days?' }], temperature: 0, max_completion_tokens: 200 };
for (const tool_choice of ['required', { type: 'function', function: { name: 'forecast' } }]) {
  const tools = [zodFunction({ name: 'forecast', parameters: Forecast })];
  const called = await client.chat.completions.parse({ ...weather, tools, tool_choice, parallel_tool_calls: false });
  Forecast.parse(called.choices[0].message.tool_calls[0].function.parsed_arguments);
}
const parsed = await client.chat.completions.parse({ ...weather, response_format: zodResponseFormat(Forecast, 'forecast') });
Forecast.parse(parsed.choices[0].message.parsed);
