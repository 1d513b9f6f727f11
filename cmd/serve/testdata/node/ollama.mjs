// Drives every method of Ollama's own client for JavaScript.
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const [url, model, stored, vision] = process.argv.slice(2);
const client = new Ollama({ host: url });
const messages = [{ role: "user", content: "How is the weather?" }];
const options = { num_predict: 8, temperature: 0, seed: 1 };

async function fails(status, call) {
  await assert.rejects(call, (e) => {
    assert.equal(e.status_code, status, e.message);
    assert.ok(e.error.length > 0);
    return true;
  });
}

assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
const names = (await client.list()).models.map((m) => m.name);
assert.ok(names.includes(model + ":latest") && names.includes(stored), names);
const shown = await client.show({ model });
assert.ok(shown.capabilities.includes("completion") && shown.model_info["general.architecture"], shown);

const whole = await client.chat({ model, messages, options });
assert.equal(whole.eval_count, 8);
let text = "";
let last;
for await (const part of await client.chat({ model, messages, options, stream: true })) {
  assert.ok(!last?.done);
  text += part.message.content;
  last = part;
}
assert.equal(text, whole.message.content);
assert.equal(last.done_reason, "length");
assert.ok(last.total_duration > 0 && last.eval_duration > 0);

const tools = [{ type: "function", function: { name: "weather", description: "d", parameters: { type: "object", properties: { city: { type: "string" } } } } }];
await client.chat({ model, messages, tools, options });
await client.chat({
  model, tools, options,
  messages: [...messages,
    { role: "assistant", content: "", tool_calls: [{ function: { name: "weather", arguments: { city: "Oslo" } } }] },
    { role: "tool", content: "sunny", tool_name: "weather" }],
});
await client.chat({ model, messages, options, think: false, format: "json", keep_alive: "5m" });

const said = await client.generate({ model, prompt: "Why?", options });
assert.ok(said.context.length > 0 && said.response.length > 0);
text = "";
for await (const part of await client.generate({ model, prompt: "Why?", options, stream: true })) text += part.response;
assert.equal(text, said.response);

const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
await fails(400, () => client.chat({ model, messages: [{ ...messages[0], images: [pixel] }], options }));
if (vision !== "none") {
  const images = [await client.encodeImage(Buffer.from(pixel, "base64"))];
  assert.ok((await client.chat({ model: vision, messages: [{ ...messages[0], images }], options })).done);
}

const two = await client.embed({ model, input: ["a b c", "d"] });
assert.equal(two.embeddings.length, 2);
assert.equal((await client.embeddings({ model, prompt: "a b c" })).embedding.length, two.embeddings[0].length);

await client.generate({ model, prompt: "", keep_alive: -1 });
const loaded = (await client.ps()).models[0];
assert.ok(new Date(loaded.expires_at).getFullYear() > 2100 && loaded.size > 0, loaded);

assert.equal((await client.copy({ source: model, destination: "mine" })).status, "success");
assert.equal((await client.chat({ model: "mine", messages, options })).model, "mine");
assert.equal((await client.delete({ model: "mine" })).status, "success");
const progress = [];
for await (const part of await client.pull({ model: stored, stream: true })) progress.push(part.status);
assert.equal(progress[0], "pulling manifest");
assert.equal(progress.at(-1), "success");

await fails(404, () => client.show({ model: "nothing" }));
await fails(501, () => client.create({ model: "x", from: model }));
await fails(501, () => client.push({ model }));
await fails(400, () => client.chat({ model, messages, options: { top_k: "many" } }));

// A stream that is aborted ends the request.
const long = await client.chat({ model, messages, stream: true, options: { num_predict: 400 } });
await assert.rejects(async () => {
  for await (const _ of long) client.abort();
}, { name: "AbortError" });
console.log("ok");
