import { expect, test, vi } from 'vitest';

vi.stubGlobal('sessionStorage', { getItem: () => null, setItem: () => {}, removeItem: () => {} });
const { body, busiest, emptyDraft, facts, limitText, matching } = await import('../src/keys');
type Key = import('../src/keys').Key;

const key = (part: Partial<Key>): Key => ({ id: 'key_1', name: 'alice', tenant: 'alice', scopes: ['inference'], models: [], limits: {}, state: 'active', tokens_today: 0, manageable: true, ...part });

test('what is left empty is left to the server', () => {
  expect(body({ ...emptyDraft, name: ' ci ' })).toEqual({ name: 'ci', scopes: ['inference', 'models'], expires: '90d' });
  expect(body({ name: 'ci', tenant: 'research', scopes: ['admin'], models: ' a, org/b:Q4 ,', expires: '0', limits: { ...emptyDraft.limits, tokens_per_day: '1000' } })).toEqual({
    name: 'ci', tenant: 'research', scopes: ['admin'], models: ['a', 'org/b:Q4'], expires: '0', tokens_per_day: 1000,
  });
});

test('limits in a line', () => {
  expect(limitText({})).toBe('');
  expect(limitText({ tokens_per_day: 2_000_000, concurrent: 4 })).toBe('2,000,000 tokens/day, 4 at once');
});

test('keys are found by all words, and those that have ended only if they are wanted', () => {
  const list = [key({}), key({ id: 'key_2', name: 'batch', tenant: 'research', models: ['mistral'] }), key({ id: 'key_3', name: 'old', state: 'revoked' })];
  const names = (words: string, ended: boolean) => matching(list, words, ended).map((k) => k.name);
  expect(names('', false)).toEqual(['alice', 'batch']);
  expect(names('', true)).toEqual(['alice', 'batch', 'old']);
  expect(names('RESEARCH mistral', false)).toEqual(['batch']);
  expect(names('research alice', false)).toEqual([]);
  expect(names('revoked', true)).toEqual(['old']);
});

test('a key says who has made it: by name, or by an id that is in the list no more', () => {
  const list = [key({ name: 'root' })];
  expect(facts(key({ id: 'key_2', made_by: 'key_1' }), list)[1]).toContain('made by root');
  expect(facts(key({ id: 'key_2', made_by: 'key_9' }), list)[1]).toContain('made by key_9');
  expect(facts(key({}), list)[0]).toBe('tenant alice · inference · all models · no limits');
});

test('who is busy comes first, and then who has used most', () => {
  const u = (name: string, tokens_today: number, requests_waiting: number) => ({ name, tokens_today, requests_running: 0, requests_waiting });
  const list = [u('idle', 0, 0), u('much', 9, 0), u('busy', 1, 2)];
  expect(busiest(list).map((k) => k.name)).toEqual(['busy', 'much', 'idle']);
});
