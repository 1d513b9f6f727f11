// The rest of the page, in a browser: models, files, search, export, and examples for programs.
// TestPage's Hub has one model, tests/Tiny-GGUF, and the first download of it halts halfway.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';

import { accessible, answered, answers, button, choose, context, lastText, page, pretend, say, settle, status, url } from './browser.mjs';

const run = promisify(execFile);
const repo = 'tests/Tiny-GGUF:Q4_K_M';
const row = (name) => page.getByRole('region', { name: 'On this machine' }).getByRole('listitem', { name, exact: true });
const visit = (name) => page.getByRole('link', { name, exact: true }).click();

/** Changes what the server says of its catalog. */
async function pretendCatalog(part) {
  await page.route('**/catalog', async (route) => route.fulfill({ json: { ...(await (await fetch(`${url}/catalog`)).json()), ...part } }));
}

/** Saves what a click downloads, and returns its name and text. */
async function saved(click) {
  const [file] = await Promise.all([page.waitForEvent('download'), click()]);
  return { name: file.suggestedFilename(), path: await file.path(), text: readFileSync(await file.path(), 'utf8') };
}

/** Drops a file on the chat. */
async function drop(name, content) {
  const dropped = await page.evaluateHandle(
    ([name, content]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(content)], name));
      return transfer;
    },
    [name, [...Buffer.from(content)]],
  );
  await page.dispatchEvent('.chat main', 'drop', { dataTransfer: dropped });
}

test('a model is downloaded, canceled, resumed, loaded, unloaded and removed', async () => {
  await visit('Models');
  await row('demo').getByText('named at start').waitFor();
  await page.getByLabel('Search the catalog').fill(repo);
  await button(`Download: ${repo}`).click();
  await page.getByRole('progressbar').waitFor();
  await accessible('a download');
  await button(`Cancel: ${repo}`).click();
  await page.getByText(/^Paused at .* of /).waitFor();

  // Another page knows of it, too.
  await page.reload();
  await page.getByText('Paused: what has come is kept').waitFor();
  await button(`Resume: ${repo}`).click();
  await row(repo).getByText('on disk', { exact: true }).waitFor();
  assert.equal(await page.getByRole('region', { name: 'Downloads' }).count(), 0);
  assert.equal(await button(`Chat with ${repo}`).count(), 0);

  await button(`Load: ${repo}`).click();
  await row(repo).getByText('in memory', { exact: true }).waitFor();
  assert.ok((await status()).models.find((m) => m.id === repo).process > 0);
  await accessible('models');
  await button(`Unload: ${repo}`).click();
  await row(repo).getByText('on disk', { exact: true }).waitFor();
  assert.equal((await status()).models.find((m) => m.id === repo).process, 0);

  await button(`Chat with ${repo}`).click();
  await settle({ 'Max tokens': '8' });
  await say('Hello');
  await answered();
  assert.match(await answers().last().locator('footer').innerText(), /Tiny-GGUF/);
  await visit('Models');
  page.once('dialog', (d) => d.dismiss());
  await button(`Remove: ${repo}`).click();
  page.once('dialog', (d) => d.accept());
  await button(`Remove: ${repo}`).click();
  await row(repo).waitFor({ state: 'detached' });
  const { models } = await (await fetch(`${url}/api/tags`)).json();
  assert.ok(!models.some((m) => m.name.startsWith(repo)));
});

test('what cannot be downloaded is said, and can be put away', async () => {
  await visit('Models');
  await page.getByLabel('Search the catalog').fill('tests/none');
  await button('Download: tests/none').click();
  await page.getByRole('region', { name: 'Downloads' }).getByRole('alert').waitFor();
  await button('Dismiss: tests/none').click();
  assert.equal(await page.getByRole('region', { name: 'Downloads' }).count(), 0);
});

test('the catalog is searched, and says what fits', async () => {
  await pretendCatalog({ memory_bytes: 8 * 2 ** 30 });
  await visit('Models');
  const catalog = page.getByRole('region', { name: 'Catalog' });
  const count = async () => Number.parseInt(await catalog.getByRole('status').innerText(), 10);
  await catalog.getByText('fits: needs').first().waitFor();
  const fitting = await count();
  await page.getByLabel('Only what fits').uncheck();
  assert.ok((await count()) > fitting);
  await page.getByLabel('Search the catalog').fill('embed');
  assert.ok((await count()) < fitting);
  await page.getByLabel('Kind', { exact: true }).selectOption('vision');
  await page.getByLabel('Search the catalog').fill('');
  await catalog.getByText('too large: needs').first().waitFor();
});

for (const [name, part, says] of [
  ['offline nothing is offered', { offline: true }, /--offline: it downloads no models/],
  ['elsewhere nothing is managed', { manage: false }, /only on the server’s own machine/],
]) {
  test(name, async () => {
    await pretendCatalog(part);
    await visit('Models');
    await page.getByText(says).waitFor();
    await page.locator('section[aria-busy=false]').waitFor();
    assert.equal(await page.getByRole('button', { name: /^Download/ }).count(), 0);
    assert.equal(await page.getByRole('button', { name: /^Unload|^Load/ }).count() > 0, part.manage !== false);
    await accessible(name);
  });
}

test('files of text are attached, removed, sent and shown', async () => {
  await choose('demo');
  await drop('notes.md', '# Grüße\n');
  await drop('data.json', '{"a": 1}');
  const attached = page.getByRole('list', { name: 'Attached' });
  await attached.getByText('data.json').waitFor();
  assert.deepEqual(await attached.locator('.name').allInnerTexts(), ['notes.md', 'data.json']);
  await accessible('files');
  await button('Remove data.json').click();

  await drop('program.bin', '\0\x01\x02');
  await page.locator('.composer').getByRole('alert').filter({ hasText: /program\.bin is a binary file/ }).waitFor();
  await drop('old.txt', [0x47, 0x72, 0xfc]);
  await page.locator('.composer').getByRole('alert').filter({ hasText: /^old\.txt is not UTF-8/ }).waitFor();
  await page.getByLabel('Attach text files').setInputFiles([{ name: 'big.csv', mimeType: 'text/csv', buffer: Buffer.alloc((1 << 20) + 1, 'a') }]);
  await page.locator('.composer').getByRole('alert').filter({ hasText: /big\.csv is larger than 1\.0 MiB/ }).waitFor();
  await page.getByLabel('Attach text files').setInputFiles([{ name: 'main.go', mimeType: 'text/x-go', buffer: Buffer.from('package main\n') }]);
  await attached.getByText('main.go').waitFor();
  assert.deepEqual(await attached.locator('.name').allInnerTexts(), ['notes.md', 'main.go']);

  const sent = page.waitForRequest('**/v1/chat/completions');
  await say('What is this?');
  await answered();
  assert.ok(await lastText(), 'the server takes it');
  const file = (filename, text) => ({ type: 'file', file: { filename, file_data: Buffer.from(text).toString('base64') } });
  const content = [file('notes.md', '# Grüße\n'), file('main.go', 'package main\n'), { type: 'text', text: 'What is this?' }];
  assert.deepEqual((await sent).postDataJSON().messages, [{ role: 'user', content }]);
  assert.equal(await attached.count(), 0);
  await page.locator('.message.user summary', { hasText: 'main.go' }).click();
  assert.equal(await page.locator('.message.user pre', { hasText: 'package main' }).innerText(), 'package main\n');
  await accessible('files of a message');
});

test('conversations are found, exported and imported', async () => {
  await pretend({ content: 'The **tide** turns twice a day.' });
  await say('Tell me of the sea');
  await answered();
  await page.keyboard.press('Alt+n');
  await say('Tell me of the land');
  await answered();
  const list = page.getByRole('navigation', { name: 'Conversations' });
  await page.getByLabel('Search conversations').fill('tide SEA');
  assert.deepEqual(await list.locator('.title').allInnerTexts().then((t) => t.map((s) => s.split('\n')[0])), ['Tell me of the sea']);
  assert.match(await list.locator('.excerpt').innerText(), /\*\*tide\*\*|sea/);
  await accessible('a search');
  await list.locator('.title').click();
  await page.getByLabel('Search conversations').fill('xyzzy');
  await list.getByText('Nothing found').waitFor();
  await page.getByLabel('Search conversations').fill('');

  await button('Export').click();
  await accessible('export');
  const markdown = await saved(() => button('Markdown').click());
  assert.equal(markdown.name, 'tell-me-of-the-sea.md');
  assert.match(markdown.text, /^# Tell me of the sea\n\n## You\n\nTell me of the sea\n\n## \S+\n\nThe \*\*tide\*\* turns twice a day\.\n$/);
  await button('Export').click();
  const one = await saved(() => button('JSON').click());
  assert.deepEqual(JSON.parse(one.text).conversations.map((c) => c.title), ['Tell me of the sea']);
  const all = await saved(() => button('Export all').click());
  assert.match(all.name, /^conversations-\d{4}-\d\d-\d\d\.json$/);
  assert.equal(JSON.parse(all.text).conversations.length, 2);

  for (const what of ['sea', 'land']) {
    page.once('dialog', (d) => d.accept());
    await button(`Delete: Tell me of the ${what}`).click();
    await button(`Delete: Tell me of the ${what}`).waitFor({ state: 'detached' });
  }
  await page.getByLabel('Import conversations').setInputFiles(all.path);
  await list.getByText('Imported: 2').waitFor();
  await page.reload();
  await page.getByRole('button', { name: 'Tell me of the sea', exact: true }).click();
  assert.equal(await lastText(), 'The tide turns twice a day.');
  await page.getByLabel('Import conversations').setInputFiles(markdown.path);
  await list.getByRole('alert').getByText(/it is not JSON/).waitFor();
});

test('the examples for programs work as they are', async () => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url });
  await choose('demo');
  await visit('API');
  const text = async (name) => page.getByRole('region', { name, exact: true }).locator('pre').innerText();
  const packages = new URL('../../cmd/serve/testdata/node/', import.meta.url);
  assert.equal(await text('Base URL'), `${url}/v1`);
  for (const dialect of ['OpenAI', 'Anthropic', 'Ollama']) {
    await page.getByLabel(dialect, { exact: true }).check({ force: true });
    await page.getByLabel('curl', { exact: true }).check({ force: true });
    const answer = JSON.parse((await run('bash', ['-c', `${await text('Example')} -s`])).stdout);
    assert.ok(answer.choices?.[0].message.content ?? answer.content?.[0].text ?? answer.message.content, dialect);

    await page.getByLabel('JavaScript', { exact: true }).check({ force: true });
    const { stdout } = await run('node', ['--input-type=module', '-e', await text('Example')], { cwd: packages });
    assert.ok(stdout.trim(), `${dialect} in JavaScript`);
    await page.getByLabel('Python', { exact: true }).check({ force: true });
    assert.equal(await text('Install'), `pip install ${dialect.toLowerCase()}`);
  }
  await button('Copy: Example').click();
  await page.getByText('Copied', { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await text('Example'));
});

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing on the other pages: ${colorScheme}, wide and narrow`, async () => {
    await page.emulateMedia({ colorScheme });
    for (const width of [1200, 390]) {
      await page.setViewportSize({ width, height: 800 });
      for (const name of ['Models', 'API']) {
        await visit(name);
        await page.locator('main.page').waitFor();
        if (name === 'Models') await page.getByRole('region', { name: 'Catalog' }).waitFor();
        await accessible(`${name}, ${width}`);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, 'it does not scroll sideways');
      }
    }
  });
}
