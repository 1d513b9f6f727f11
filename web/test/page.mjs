// The page, in a browser, as people use it. TestPage (cmd/serve/page_test.go) starts a serve with
// two models, demo and tiny, whose answers are long, and runs this.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { accessible, answered, answers, button, choose, field, forgive, greedy, lastText, page, pretend, say, settle, status, text, url } from './browser.mjs';

test('it is small, and painted soon', async (t) => {
  const sizes = await page.evaluate(() => performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation')).map((e) => e.transferSize));
  const total = sizes.reduce((a, b) => a + b);
  const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime);
  t.diagnostic(`${Math.round(total / 1000)} kB over the wire, first paint after ${Math.round(paint)} ms`);
  assert.ok(total > 10_000 && total < 200_000, `${total} bytes`);
});

test('a chat with the demo, which is what the API says, and is there after a reload', async () => {
  await choose('demo');
  await settle({ Temperature: '0' });
  await say('Who are you?');
  await answered();
  const want = (await greedy('demo', [{ role: 'user', content: 'Who are you?' }], 200)).replaceAll('`', '');
  assert.equal((await lastText()).trim(), want.trim());
  assert.match(await answers().last().locator('footer').innerText(), /demo · \d+ tokens/);
  await page.reload();
  await page.getByRole('button', { name: 'Who are you?', exact: true }).click();
  assert.equal((await lastText()).trim(), want.trim());
});

test('streamed, stopped, regenerated, edited; and nothing of it is lost', async () => {
  await choose('tiny');
  await settle({ Temperature: '0' });
  await say(text);
  // It grows while it comes.
  const lengths = new Set();
  while (lengths.size < 4 || Math.max(...lengths) < 300) lengths.add((await lastText()).length);
  await button('Stop').click();
  await answered();
  const first = await lastText();
  assert.ok(first.length > 0);
  assert.match(await answers().last().locator('footer').innerText(), /stopped/);
  while ((await status()).models.some((m) => m.running > 0)); // its place is free

  await settle({ 'Max tokens': '8' });
  await button('Regenerate').click();
  await answered();
  const second = await lastText();
  assert.ok(first.startsWith(second.slice(0, 5)) && second.length < first.length);
  assert.match(await answers().last().locator('footer').innerText(), /2\/2[^]*cut off at the token limit/);
  await button('Earlier version').click();
  assert.equal(await lastText(), first);

  await page.getByRole('button', { name: 'Edit' }).click();
  await page.getByLabel('Edit the message').fill('Something else');
  await page.keyboard.press('Enter');
  await answered();
  const edited = page.locator('.message.user');
  assert.match(await edited.innerText(), /^Something else[^]*2\/2/);
  await edited.getByRole('button', { name: 'Earlier version' }).click();
  assert.match(await edited.innerText(), /^Once upon a time[^]*1\/2/);
  assert.equal(await lastText(), first);
});

test('Escape stops an answer', async () => {
  await choose('tiny');
  await settle({ Temperature: '0' }); // drawn otherwise, it may end by itself
  await say(text);
  while (!(await lastText()));
  await page.keyboard.press('Escape');
  await answered();
  assert.match(await answers().last().locator('footer').innerText(), /stopped/);
});

test('another model answers on', async () => {
  await choose('tiny');
  await settle({ 'Max tokens': '8' });
  await say(text);
  await answered();
  await choose('demo');
  await settle({ 'Max tokens': '' });
  await say('Thank you!');
  await answered();
  const footers = await answers().locator('footer').allInnerTexts();
  assert.match(footers[0], /tiny/);
  assert.match(footers[1], /demo/);
});

test('an engine that dies in mid-answer: the answer goes on, and is the same', async () => {
  const before = (await status()).models.find((m) => m.id === 'tiny');
  await choose('tiny');
  await settle({ Temperature: '0', 'Max tokens': '1000' });
  await say(text);
  while (!(await lastText()));
  process.kill(before.process, 'SIGKILL');
  await answered();
  const now = (await status()).models.find((m) => m.id === 'tiny');
  assert.ok(now.restarts > before.restarts && now.process !== before.process);
  const stats = await answers().last().locator('footer [title]').getAttribute('title');
  assert.match(stats, /, 1000 answer tokens/);
  assert.match(await answers().last().locator('footer').innerText(), /tiny · [\d.]+ tokens\/s/);
  const shown = await page.evaluate(() => new Promise((resolve) => {
    const open = indexedDB.open('serve');
    open.onsuccess = () => (open.result.transaction('conversations').objectStore('conversations').getAll().onsuccess = (e) => resolve(Object.values(e.target.result[0].messages).at(-1).text));
  }));
  assert.equal(shown, await greedy('tiny', [{ role: 'user', content: text }], 1000));
});

test('what the server refuses is said in its words, and can be tried again', async () => {
  await choose('demo');
  await say('word '.repeat(5000));
  const error = answers().last().getByRole('alert');
  assert.match(await error.innerText(), /context has room for \d+/);
  forgive(/status of 400/); // the browser's own line for any 400
  await button('Try again').waitFor();
});

test('a server that is gone is said to be gone, and what came before is kept', async () => {
  await choose('demo');
  await page.route('**/v1/chat/completions', (route) => route.abort());
  await say('Hello');
  assert.match(await answers().last().getByRole('alert').innerText(), /cannot be reached/);
  await page.unroute('**/v1/chat/completions');
  await button('Try again').click();
  await answered();
  assert.ok(await lastText());
  forgive(/ERR_FAILED/);
});

test('an answer that breaks off is not taken for whole', async () => {
  const body = `data: ${JSON.stringify({ choices: [{ delta: { content: 'Half' } }] })}\n\n`;
  await page.route('**/v1/chat/completions', (route) => route.fulfill({ contentType: 'text/event-stream', body }));
  await say('Hello');
  assert.match(await answers().last().getByRole('alert').innerText(), /before it was complete/);
  assert.equal(await lastText(), 'Half');
});

test('markdown is shown, and what would do harm is not', async () => {
  await pretend({
    content: `# Title\n\nfirst\nsecond\n\n- [x] one\n- **two**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n\`\`\`python\ndef f(): return 1\n\`\`\`\n\n<script>window.harm=1</script><img src="http://127.0.0.1:9/x.png" onerror="window.harm=2">\n\n![pic](http://127.0.0.1:9/y.png) [bad](javascript:window.harm=3) [good](https://example.org/)\n\n<a href="#" style="position:fixed" onclick="window.harm=4">x</a><form action="/"><input name="q"></form><iframe src="http://127.0.0.1:9/"></iframe>`,
  });
  await say('Hello');
  await answered();
  const answer = answers().last().locator('.markdown');
  assert.equal(await answer.locator('h1').innerText(), 'Title');
  assert.equal(await answer.locator('p', { hasText: 'first' }).innerText(), 'first\nsecond');
  assert.ok(await answer.getByRole('checkbox').isChecked());
  assert.equal(await answer.locator('td').count(), 2);
  assert.equal(await answer.locator('pre').getAttribute('tabindex'), '0'); // long lines are scrolled by keys, too
  assert.equal(await answer.locator('.hljs-keyword').first().innerText(), 'def');
  assert.equal(await answer.locator('script, img, iframe, form, input:not([type=checkbox]:disabled), [style], [onclick], [onerror], a[href^=javascript]').count(), 0);
  const good = answer.getByRole('link', { name: 'good' });
  assert.equal(await good.getAttribute('rel'), 'noopener noreferrer');
  assert.equal(await answer.getByRole('link', { name: 'pic' }).count(), 1);
  assert.match(await answer.innerText(), /<script>window.harm=1<\/script>/);
  assert.equal(await page.evaluate(() => window.harm), undefined);
  await accessible('markdown');
});

test('reasoning and tool calls are shown, and results go back', async () => {
  await pretend({ reasoning_content: 'Let me look.' }, { tool_calls: [{ index: 0, id: 'call_1', function: { name: 'get_weather', arguments: '{"city":' } }] }, { tool_calls: [{ index: 0, function: { arguments: '"Oslo"}' } }] });
  await say('What is the weather?');
  await answered();
  const answer = answers().last();
  assert.match(await answer.locator('.call').innerText(), /get_weather[^]*"city": "Oslo"/);
  await answer.locator('summary').click();
  assert.match(await answer.locator('.reasoning').innerText(), /Let me look/);
  await accessible('tool calls');
  await page.unroute('**/v1/chat/completions');
  let sent;
  await page.route('**/v1/chat/completions', (route) => {
    sent = route.request().postDataJSON();
    return route.fulfill({ contentType: 'text/event-stream', body: 'data: {"choices":[{"delta":{"content":"Rain."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n' });
  });
  await answer.getByLabel('Result').fill('rain');
  await button('Send results').click();
  await answered();
  assert.equal(await lastText(), 'Rain.');
  assert.deepEqual(sent.messages.slice(1), [
    { role: 'assistant', content: null, tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'get_weather', arguments: '{"city":"Oslo"}' } }] },
    { role: 'tool', tool_call_id: 'call_1', content: 'rain' },
  ]);
});

test('settings are sent as they are, and what is no JSON is not', async () => {
  let sent;
  await page.route('**/v1/chat/completions', (route) => {
    sent = route.request().postDataJSON();
    return route.fulfill({ contentType: 'text/event-stream', body: 'data: [DONE]\n\n' });
  });
  await settle({ 'System prompt': 'Be brief.', Temperature: '0.5', Seed: '7', 'Stop sequences, one per line': 'a b\nc', 'Tools (JSON, OpenAI format)': '[{"type":"function","function":{"name":"f"}}]' });
  await say('Hello');
  await answered();
  assert.deepEqual(sent, {
    temperature: 0.5, seed: 7, stop: ['a b', 'c'], tools: [{ type: 'function', function: { name: 'f' } }],
    model: 'demo', messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hello' }], stream: true, stream_options: { include_usage: true },
  });
  await settle({ 'Tools (JSON, OpenAI format)': '[{' });
  sent = undefined;
  await say('Hello');
  await answered();
  assert.equal(sent, undefined);
  assert.match(await answers().last().getByRole('alert').innerText(), /JSON/);
});

test('images are attached only where the model sees', async () => {
  await choose('demo');
  assert.equal(await page.getByLabel('Attach text files', { exact: true }).count(), 1);
  await page.route('**/status', async (route) => {
    const answer = await (await fetch(`${url}/status`)).json();
    for (const m of answer.models) m.sees_images = true;
    return route.fulfill({ json: answer });
  });
  await page.reload();
  let sent;
  await page.route('**/v1/chat/completions', (route) => {
    sent = route.request().postDataJSON();
    return route.fulfill({ contentType: 'text/event-stream', body: 'data: [DONE]\n\n' });
  });
  const dot = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');
  await page.getByLabel('Attach text files and images').setInputFiles([{ name: 'dot.png', mimeType: 'image/png', buffer: dot }]);
  await page.getByAltText('Attached image 1').waitFor();
  await accessible('an image');
  await say('What is this?');
  await answered();
  assert.deepEqual(sent.messages, [{ role: 'user', content: [{ type: 'image_url', image_url: { url: `data:image/png;base64,${dot.toString('base64')}` } }, { type: 'text', text: 'What is this?' }] }]);
  await page.getByLabel('Attach text files and images').setInputFiles([{ name: 'notes.txt', mimeType: 'text/plain', buffer: dot }]);
  assert.match(await page.locator('.composer').getByRole('alert').innerText(), /notes.txt is a binary file/);
});

test('by keyboard alone, and conversations can be deleted', async () => {
  await choose('demo');
  await field().focus();
  await page.keyboard.type('Hello');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('there');
  await page.keyboard.press('Enter');
  await answered();
  assert.match(await page.locator('.message.user .said').innerText(), /^Hello\nthere$/);
  await page.keyboard.press('Alt+n');
  await page.getByRole('heading', { name: 'Chat with demo' }).waitFor();
  page.once('dialog', (d) => d.accept());
  await button('Delete: Hello').click();
  await button('Delete: Hello').waitFor({ state: 'detached' });
  await page.reload();
  await field().waitFor();
  assert.equal(await page.locator('.chat nav li').count(), 0);
});

test('a browser that keeps nothing has neither earlier conversations nor new ones', async () => {
  const stored = () => page.evaluate(() => new Promise((resolve) => {
    const open = indexedDB.open('serve');
    open.onsuccess = () => (open.result.transaction('conversations').objectStore('conversations').count().onsuccess = (e) => resolve(e.target.result));
  }));
  await choose('demo');
  await say('Remember this');
  await answered();
  assert.ok((await stored()) > 0);

  await button('Settings').click();
  const choice = page.getByLabel('Keep nothing in this browser');
  await choice.check();
  while (await stored());
  await accessible('keeping nothing');
  await button('Settings').click();
  await say('Forget this');
  await answered();
  assert.equal(await stored(), 0);
  await page.reload();
  await field().waitFor();
  assert.equal(await page.locator('.chat nav li').count(), 0);

  // It is still so after a reload, until it is unchosen: then what is shown is kept.
  await choose('demo');
  await say('Remember that');
  await answered();
  assert.equal(await stored(), 0);
  await button('Settings').click();
  await choice.uncheck();
  while (!(await stored()));
  await button('Settings').click();
});

test('the status page draws what /metrics says', async () => {
  await page.getByRole('link', { name: 'Status' }).click();
  const tiny = page.getByRole('region', { name: 'tiny' });
  await tiny.getByText('ready').waitFor();
  const canvas = tiny.locator('figure', { hasText: 'Tokens per second' }).locator('canvas');
  await canvas.waitFor();
  let seen = false; // until then it is kept busy
  const asked = (async () => {
    while (!seen) await greedy('tiny', [{ role: 'user', content: text }], 1000);
  })();
  await tiny.getByText('1 running, 0 waiting').waitFor();
  await tiny.getByText(/[1-9]\d* written/).waitFor();
  seen = true;
  await asked;
  await tiny.getByText('0 running, 0 waiting').waitFor();
  const inked = await canvas.evaluate((c) => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size);
  assert.ok(inked > 3, 'lines of two colors and a grid');
  await accessible('status');
});

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing to complain of: ${colorScheme}, wide and narrow`, async () => {
    await page.emulateMedia({ colorScheme });
    await accessible('empty');
    await choose('demo');
    await say('How do I use it from Python?');
    await answered();
    await page.getByRole('button', { name: 'Settings' }).click();
    await accessible('with settings');
    await page.setViewportSize({ width: 390, height: 800 });
    await accessible('narrow');
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, 'it does not scroll sideways');
    await button('Conversations').click();
    await accessible('narrow, with the list');
    await button('New conversation').click();
    await page.getByRole('heading', { name: 'Chat with demo' }).waitFor();
  });
}
