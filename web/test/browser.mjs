// What the tests of the page share: the browser, a fresh page for each test, and what people do on it.
//
//   PAGE_URL  where it is              CHROMIUM  the browser
//   KEYED_URL where it wants a key     KEYS      the secrets, by name, as JSON
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach } from 'node:test';

import { chromium } from 'playwright-core';

export const url = process.env.PAGE_URL;
export const keyed = process.env.KEYED_URL;
export const secrets = JSON.parse(process.env.KEYS);
const own = [url, keyed].flatMap((u) => [u, `blob:${u}`]);
const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
export const text = 'Once upon a time';
export let page, context;
let browser, complaints;

before(async () => {
  const quiet = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: quiet });
});
after(() => browser?.close());

beforeEach(async () => {
  context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
  page = await context.newPage();
  page.setDefaultTimeout(20_000);
  complaints = [];
  page.on('console', (m) => ['error', 'warning'].includes(m.type()) && complaints.push(`console: ${m.text()}`));
  page.on('pageerror', (e) => complaints.push(`uncaught: ${e.message}`));
  page.on('request', (r) => ['data:', ...own].some((begins) => r.url().startsWith(begins)) || complaints.push(`request elsewhere: ${r.url()}`));
  await page.goto(url);
  await page.locator('button[type=submit]:enabled').waitFor(); // it knows the models
});
afterEach(async () => {
  const heard = complaints;
  await context.close();
  assert.deepEqual(heard, [], 'the browser complains of nothing');
});

export const field = () => page.getByLabel('Message', { exact: true });
export const button = (name) => page.getByRole('button', { name, exact: true });
export const answers = () => page.locator('.message.assistant');
export const lastText = () => answers().last().locator('.markdown').innerText();
export const status = async () => (await fetch(`${url}/status`)).json();

export async function say(what) {
  await field().fill(what);
  await field().press('Enter');
}

export async function choose(model) {
  await page.getByLabel('Model').selectOption(model);
}

/** Waits until nothing is being answered. */
export async function answered() {
  await button('Send').waitFor();
  await page.locator('[aria-busy=true]').waitFor({ state: 'detached' });
}

/** The greedy answer that the API gives, for the page's to be compared with. */
export async function greedy(model, messages, most) {
  const body = { model, messages, temperature: 0, max_completion_tokens: most };
  const response = await fetch(`${url}/v1/chat/completions`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  return (await response.json()).choices[0].message.content;
}

export async function settle(fields) {
  await button('Settings').click();
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label, { exact: true }).fill(value);
  await button('Settings').click();
}

/** Answers the page's next requests with these chunks, as a model would that says just that. */
export async function pretend(...deltas) {
  const chunks = deltas.map((delta) => ({ choices: [{ index: 0, delta }] }));
  chunks.push({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] }, { choices: [], usage: { prompt_tokens: 1, completion_tokens: 2 } });
  const body = chunks.map((c) => `data: ${JSON.stringify(c)}\n\n`).join('') + 'data: [DONE]\n\n';
  await page.route('**/v1/chat/completions', (route) => route.fulfill({ contentType: 'text/event-stream', body }));
}

export async function accessible(where) {
  await page.evaluate(axe).catch(() => page.addScriptTag({ content: axe }));
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  assert.deepEqual(
    violations.map((v) => `${where}: ${v.id}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(' ')}`),
    [],
  );
}

/** Takes what the browser itself says of an error that a test provokes for no complaint. */
export function forgive(pattern) {
  complaints = complaints.filter((c) => !pattern.test(c));
}
