// The page of a server that wants keys, in a browser: what each key is offered, and what administrators do. TestPage's
// server has the keys root (all scopes), alice (the default ones), scraper (metrics) and lead (of the tenant research).
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { accessible, answered, button, context, forgive, keyed, lastText, page, say, secrets } from './browser.mjs';

const visit = (name) => page.getByRole('link', { name, exact: true }).click();
const pages = () => page.getByRole('navigation', { name: 'Pages' }).getByRole('link').allInnerTexts();
const scope = (name) => page.getByRole('checkbox', { name: `${name}: ` });
const row = (name) => page.getByRole('region', { name: 'Keys', exact: true }).getByRole('listitem', { name, exact: true });
const asked = async (secret, path = '/v1/models') => (await fetch(keyed + path, { headers: { Authorization: `Bearer ${secret}` } })).status;
let refusals;

beforeEach(() => {
  refusals = [];
  page.on('response', (r) => r.status() === 403 && refusals.push(r.url()));
});

/** Opens the page with a key, which it asks for. */
async function enter(name) {
  await page.goto(keyed);
  await page.getByRole('heading', { name: 'API key' }).waitFor();
  forgive(/status of 401/); // how the page finds that out
  await page.getByLabel('Key', { exact: true }).fill(secrets[name]);
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'Key', exact: true }).waitFor();
}

/** Opens the form for a new key, and types its name: the field has the focus. */
async function begin(name) {
  await button('New key').click();
  await page.locator('input:focus').waitFor();
  await page.keyboard.type(name);
}

/** Makes a key on the page, and returns its secret. */
async function create(name, fill = async () => {}) {
  await begin(name);
  await fill();
  await button('Create the key').click();
  return secretOf(name);
}

async function secretOf(name) {
  const shown = page.getByRole('region', { name: `Secret of ${name}`, exact: true });
  await shown.waitFor();
  return (await shown.locator('pre').innerText()).trim();
}

for (const [name, offered, scopes] of [
  ['alice', ['Chat', 'Models', 'API', 'Key'], ['inference', 'models']],
  ['scraper', ['Chat', 'Models', 'API', 'Status', 'Key'], ['metrics']],
  ['root', ['Chat', 'Models', 'API', 'Status', 'Admin', 'Key'], ['inference', 'models', 'metrics', 'admin']],
]) {
  test(`the key ${name} is offered what it may do, and asks for nothing else`, async () => {
    await enter(name);
    assert.deepEqual(await pages(), offered);
    for (const place of offered) {
      await visit(place);
      await page.locator('main').waitFor();
      await accessible(`${place} for ${name}`);
    }
    await page.getByRole('heading', { name: 'It may' }).waitFor();
    assert.deepEqual(await page.locator('main li strong').allInnerTexts(), scopes);
    await page.evaluate(() => (location.hash = '#admin'));
    if (name !== 'root') await page.getByText('that takes one with the scope admin').waitFor();
    await page.evaluate(() => (location.hash = '#status'));
    if (name === 'alice') await page.getByText('This key may not see the status').waitFor();
    await page.evaluate(() => (location.hash = '#models'));
    if (name === 'alice') await page.waitForRequest('**/v1/models'); // it goes on to ask for what it may have
    assert.deepEqual(refusals, []);
  });
}

test('a key of inference chats, and is forgotten when that is wanted', async () => {
  await enter('alice');
  await page.locator('button[type=submit]:enabled').waitFor();
  await say('Hello');
  await answered();
  assert.ok(await lastText());
  await visit('Key');
  await page.getByText(/^alice$/).first().waitFor();
  await button('Forget the key now').click();
  await page.getByRole('heading', { name: 'API key' }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test('a key is made, copied, used, rotated and revoked', async () => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: keyed });
  await enter('root');
  await visit('Admin');
  const secret = await create('ci', async () => {
    await page.getByLabel('Tenant', { exact: true }).fill('tests');
    await page.getByLabel('Models, with commas between them').fill('demo');
    await page.getByLabel('Tokens per day').fill('1000000');
    await scope('metrics').check();
    await accessible('a new key');
  });
  await button('Copy: Secret: ci').click();
  await page.getByText('Copied', { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
  await accessible('a secret');
  assert.deepEqual([await asked(secret), await asked(secret, '/status'), await asked(secret, '/keys')], [200, 200, 403]);
  await button('I have it').click();
  await row('ci').getByText('tenant tests · inference, models, metrics · demo · 1,000,000 tokens/day').waitFor();
  await row('ci').getByText(/made by root/).waitFor();
  assert.ok(!(await page.content()).includes(secret), 'it is not shown again');

  // What it has used is seen.
  const body = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'Hello' }], max_completion_tokens: 8 });
  const answer = await fetch(`${keyed}/v1/chat/completions`, { method: 'POST', headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' }, body });
  const { total_tokens } = (await answer.json()).usage;
  await page.getByRole('region', { name: 'Keys in use today' }).getByRole('row', { name: `ci tests ${total_tokens} 0 0` }).waitFor();
  await page.getByRole('region', { name: /^Tenants/ }).getByRole('row', { name: `tests 1 ${total_tokens} 0 0` }).waitFor();

  await button('Rotate: ci').click();
  await page.getByLabel('The earlier secret').selectOption('works for an hour');
  await accessible('a rotation');
  await button('Make a new secret').click();
  const next = await secretOf('ci');
  assert.notEqual(next, secret);
  assert.deepEqual([await asked(secret), await asked(next)], [200, 200]);
  await button('I have it').click();

  page.once('dialog', (d) => d.dismiss());
  await button('Revoke: ci').click();
  assert.equal(await asked(next), 200);
  page.once('dialog', (d) => d.accept());
  await button('Revoke: ci').click();
  await row('ci').waitFor({ state: 'detached' });
  assert.deepEqual([await asked(secret), await asked(next)], [401, 401]);
  await page.getByLabel('Also revoked and expired').check();
  await row('ci').getByText('revoked', { exact: true }).waitFor();
  assert.equal(await button('Revoke: ci').count(), 0);

  await begin('ci');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').getByText(/already a key named ci/).waitFor();
  forgive(/status of 400/);
  await page.keyboard.press('Escape');
  await button('New key').waitFor();
  assert.deepEqual(refusals, []);
});

test('an administrator of a tenant has its keys alone, and gives no more than it has', async () => {
  await enter('lead');
  await visit('Admin');
  await page.getByText('You administer the keys of the tenant research.').waitFor();
  await row('lead').getByText('the key of this page').waitFor();
  assert.equal(await page.getByRole('region', { name: 'Keys', exact: true }).getByRole('listitem').count(), 1);
  const secret = await create('assistant', async () => {
    assert.ok(await scope('metrics').isDisabled());
    assert.ok(await page.getByLabel('Tenant', { exact: true }).isDisabled());
  });
  assert.equal(await asked(secret), 200);
  await row('assistant').getByText(/^tenant research/).waitFor();
});

test('who rotates the key of this page goes on with the new one', async () => {
  await enter('lead');
  await visit('Admin');
  await button('Rotate: lead').click();
  await button('Make a new secret').click();
  const next = await secretOf('lead');
  await button('I have it').click();
  assert.deepEqual([await asked(secrets.lead), await asked(next)], [401, 200]);
  await page.waitForResponse((r) => r.url() === `${keyed}/usage` && r.status() === 200);
  await page.reload();
  await row('lead').waitFor();
});

test('a log of records that cannot be written is said to be so', async () => {
  let audit = { records: 1234, lost: 0, continue: false };
  await page.route('**/status', async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ json: { ...(await answer.json()), audit } });
  });
  await enter('root');
  await visit('Admin');
  const log = page.getByRole('region', { name: 'Audit log' });
  await log.getByText('1,234 records.').waitFor();
  await accessible('an audit log');
  audit = { ...audit, failing: 'no space left on device', lost: 2 };
  await page.reload();
  await log.getByRole('alert').getByText(/no space left.*refuses work/).waitFor();
  await log.getByText(/2 could not be written/).waitFor();
  await accessible('an audit log that fails');
});

test('the last records are shown, and whether they are as they were signed', async () => {
  await enter('root');
  await visit('Admin');
  const log = page.getByRole('region', { name: 'Audit log' });
  await log.getByText(/is what the log’s key has signed/).waitFor();
  const body = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'private words' }], max_completion_tokens: 4 });
  const headers = { Authorization: `Bearer ${secrets.alice}`, 'Content-Type': 'application/json' };
  assert.equal((await fetch(`${keyed}/v1/chat/completions`, { method: 'POST', headers, body })).status, 200);
  await button('Read and verify again').click();
  const records = log.getByRole('region', { name: 'Last records, the newest first' });
  await records.getByRole('row', { name: /request\.end alice .* demo .* 200/ }).first().waitFor();
  await records.getByRole('row', { name: /request root .* \/audit/ }).first().waitFor(); // looking is recorded, too
  await log.getByText('Last checkpoint, to be kept elsewhere').click();
  await log.getByText(/serve-audit-/).waitFor();
  assert.ok(!(await page.content()).includes('private words'));
  await accessible('the last records');

  const problems = [{ file: '0.jsonl', line: 5, record: 3, problem: 'record 3 was changed' }];
  await page.route('**/audit', async (route) => {
    const answer = await (await route.fetch()).json();
    await route.fulfill({ json: { ...answer, log: { ...answer.log, holds: false, problems } } });
  });
  await button('Read and verify again').click();
  await log.getByText(/is not what the log’s key has signed/).waitFor();
  await log.getByText('0.jsonl:5: record 3 was changed').waitFor();
  await accessible('a log that was changed');
});

test('a server without keys says how the first is made', async () => {
  await page.evaluate(() => (location.hash = '#admin'));
  await page.getByText('serve key create root').waitFor();
  await accessible('no keys');
  assert.equal(await page.getByRole('link', { name: 'Key', exact: true }).count(), 0);
});

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing on the administrators' page: ${colorScheme}, wide and narrow`, async () => {
    await page.emulateMedia({ colorScheme });
    await enter('root');
    await visit('Admin');
    await row('root').waitFor();
    await page.getByRole('region', { name: /^Tenants/ }).waitFor();
    await button('New key').click();
    for (const width of [1200, 390]) {
      await page.setViewportSize({ width, height: 800 });
      await accessible(`Admin, ${width}`);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, 'it does not scroll sideways');
    }
  });
}
