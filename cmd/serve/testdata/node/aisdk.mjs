// Five turns with tools by the npm packages ai and @ai-sdk/openai: node aisdk.mjs BASE_URL MODEL
import assert from 'node:assert/strict';
import { createOpenAI } from '@ai-sdk/openai';
import { stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';

const [baseURL, name] = process.argv.slice(2);
const turns = 5;

// Requests are counted, so that a turn that the package repeats is seen.
let requests = 0;
const openai = createOpenAI({
  baseURL,
  apiKey: 'none',
  fetch: (url, init) => {
    requests += 1;
    return fetch(url, init);
  },
});

for (const [api, model] of Object.entries({ responses: openai.responses(name), chat: openai.chat(name) })) {
  requests = 0;
  const ran = [];
  const errors = [];
  const result = streamText({
    model,
    prompt: 'How is the weather?',
    seed: 3,
    maxRetries: 0,
    maxOutputTokens: 200,
    toolChoice: 'required',
    stopWhen: stepCountIs(turns),
    tools: {
      weather: tool({
        description: 'The weather of a city.',
        inputSchema: z.object({ city: z.enum(['Paris', 'Oslo']) }),
        execute: async ({ city }) => {
          ran.push(city);
          return { city, celsius: 7 };
        },
      }),
    },
    providerOptions: { openai: { parallelToolCalls: false } },
    onError: ({ error }) => errors.push(error),
  });

  const parts = [];
  for await (const part of result.fullStream) parts.push(part.type);
  assert.deepEqual(errors, [], api);
  assert.equal((await result.steps).length, turns, api);
  assert.equal(requests, turns, api);
  assert.equal(ran.length, turns, api);
  assert.ok(ran.every((city) => ['Paris', 'Oslo'].includes(city)), api);
  assert.equal(parts.filter((type) => type === 'tool-result').length, turns, api);
  assert.ok((await result.totalUsage).inputTokens > 0, api);
}
