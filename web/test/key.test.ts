import { beforeEach, expect, test, vi } from 'vitest';

const stored = new Map<string, string>();
vi.stubGlobal('sessionStorage', {
  getItem: (name: string) => stored.get(name) ?? null,
  setItem: (name: string, value: string) => stored.set(name, value),
  removeItem: (name: string) => stored.delete(name),
});
const seen: { url: string; key: string | null; type: string | null }[] = [];
let accepted = 'right';
vi.stubGlobal('fetch', async (url: string, init: RequestInit) => {
  const headers = new Headers(init.headers);
  seen.push({ url, key: headers.get('Authorization'), type: headers.get('Content-Type') });
  const status = headers.get('Authorization') === `Bearer ${accepted}` ? 200 : 401;
  return new Response('{}', { status });
});

const { ask } = await import('../src/api');
const { refusal, use, wanted } = await import('../src/key');

beforeEach(() => {
  seen.length = 0;
  accepted = 'right';
  use('');
  refusal.value = '';
});

test('a key is asked for when the server wants one', async () => {
  await ask('/status');
  expect([wanted.value, refusal.value, seen[0].key]).toEqual([true, '', null]);
});

test('it is sent in a header with every request, and in no URL', async () => {
  use(' right\n');
  await ask('/status');
  await ask('/api/pull', { method: 'POST', headers: { 'Content-Type': 'application/json' } });
  expect(wanted.value).toBe(false);
  expect(seen).toEqual([
    { url: '/status', key: 'Bearer right', type: null },
    { url: '/api/pull', key: 'Bearer right', type: 'application/json' },
  ]);
  expect([...stored.values()]).toEqual(['right']);
});

test('one that is not accepted any more is forgotten, and said to be', async () => {
  use('right');
  accepted = 'another';
  await ask('/status');
  expect([wanted.value, refusal.value !== '', stored.size]).toEqual([true, true, 0]);
  await ask('/status');
  expect(seen.at(-1)!.key).toBe(null);
});

test('a late refusal of an earlier key does not forget the one in use', async () => {
  use('wrong');
  const late = ask('/status');
  use('right');
  await late;
  expect([wanted.value, refusal.value, [...stored.values()]]).toEqual([false, '', ['right']]);
});
