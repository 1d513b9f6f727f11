import { beforeEach, expect, test, vi } from 'vitest';

vi.stubGlobal('sessionStorage', { getItem: () => null, setItem: () => {}, removeItem: () => {} });
vi.stubGlobal('localStorage', { getItem: () => null, setItem: () => {}, removeItem: () => {} });
const seen: string[] = [];
let scopes: string[] | null = null; // of the key that the server sees; null for a server without keys
let answers: (() => void)[] | null = null; // that wait; null if none does
vi.stubGlobal('fetch', async (url: string) => {
  seen.push(url);
  const key = scopes && { id: 'key_1', name: 'k', tenant: 'k', scopes, models: [], limits: {}, state: 'active', tokens_today: 0 };
  const text = url === '/key' ? { required: key !== null, manages: false, administers: '', key } : url === '/status' ? { version: '1', models: [] } : { data: [{ id: 'm' }], models: [] };
  if (answers) await new Promise<void>((go) => answers!.push(go));
  return new Response(JSON.stringify(text));
});

const { forgetRights, learn, may, rights } = await import('../src/rights');
const { models, refresh } = await import('../src/session');
const { look, unlook } = await import('../src/library');

beforeEach(() => {
  seen.length = 0;
  answers = null;
  forgetRights();
  unlook();
});

test.each([
  [null, ['/key', '/status', '/catalog', '/api/tags']],
  [['inference'], ['/key', '/v1/models', '/api/tags']],
  [['metrics'], ['/key', '/status', '/catalog']],
  [['admin'], ['/key', '/status', '/catalog', '/api/tags']],
] as [string[] | null, string[]][])('a key with the scopes %j asks for nothing that it may not have', async (given, want) => {
  scopes = given;
  await refresh();
  await look();
  expect(seen).toEqual(want);
  expect(models.value.map((m) => m.id)).toEqual(want.includes('/v1/models') ? ['m'] : []);
});

test('nothing is allowed until it is known', () => {
  expect([may('use'), may('list'), may('status')]).toEqual([false, false, false]);
});

test('what a key may is asked once, and again if that is wanted', async () => {
  scopes = ['inference'];
  await Promise.all([learn(), learn()]);
  await learn();
  expect(seen).toEqual(['/key']);
  scopes = ['inference', 'metrics'];
  await learn(true);
  expect(may('status')).toBe(true);
});

test('a late answer for an earlier key does not count', async () => {
  scopes = ['admin'];
  answers = [];
  const late = learn();
  const [answer] = answers;
  answers = null;
  forgetRights();
  scopes = ['inference'];
  await learn();
  answer();
  await late;
  expect(rights.value!.key!.scopes).toEqual(['inference']);
});
