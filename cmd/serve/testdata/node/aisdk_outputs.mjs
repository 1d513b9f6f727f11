// The npm packages @ai-sdk/openai, @ai-sdk/openai-compatible and @ai-sdk/anthropic: chats, streams, loops with
// tools, structured output and embeddings. node aisdk_outputs.mjs BASE_URL MODEL
import assert from 'node:assert/strict';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';

const [baseURL, name] = process.argv.slice(2);
const apiKey = 'none';
const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({
  name: 'serve',
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const anthropic = createAnthropic({ baseURL, apiKey });

const common = { prompt: 'How is the weather?', maxRetries: 0, maxOutputTokens: 200, temperature: 0 };
const schema = z.object({ sky: z.enum(['blue', 'grey']), rain: z.boolean() });

const models = {
  responses: openai.responses(name),
  chat: openai.chat(name),
  compatible: compatible.chatModel(name),
  anthropic: anthropic(name),
};
for (const [api, model] of Object.entries(models)) {
  const whole = await generateText({ model, ...common });
  assert.ok(whole.text.length > 0 && whole.usage.outputTokens > 0, api);

  const streamed = streamText({ model, ...common, onError: ({ error }) => assert.fail(error) });
  let text = '';
  for await (const piece of streamed.textStream) text += piece;
  assert.equal(text, whole.text, api);
  assert.equal((await streamed.usage).outputTokens, whole.usage.outputTokens, api);

  let ran = 0;
  const loop = await generateText({
    model,
    ...common,
    toolChoice: 'required',
    stopWhen: stepCountIs(3),
    tools: {
      weather: tool({
        description: 'The weather of a city.',
        inputSchema: z.object({ city: z.enum(['Paris', 'Oslo']) }),
        execute: async ({ city }) => {
          ran += 1;
          return { city, celsius: 7 };
        },
      }),
    },
  });
  assert.equal(loop.steps.length, 3, api);
  assert.ok(ran >= 3, api);

  const formed = await generateText({ model, ...common, output: Output.object({ schema }) });
  assert.deepEqual(schema.parse(formed.output), formed.output, api);
}

for (const [api, model] of Object.entries({
  openai: openai.embeddingModel(name),
  compatible: compatible.embeddingModel(name),
})) {
  const { embeddings } = await embedMany({ model, values: ['the man', 'the sea'], maxRetries: 0 });
  assert.equal(embeddings.length, 2, api);
  assert.ok(embeddings[0].length > 0 && embeddings[0].length === embeddings[1].length, api);
}
