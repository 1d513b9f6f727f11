import { expect, test } from 'vitest';

import type { ModelStatus } from '../src/api';
import { advance, duration, fits, inventory, isHere, kinds, noProgress, offered, repository, speed, totals } from '../src/inventory';
import type { Catalog, CatalogModel, Tag } from '../src/manage';

const status = (id: string, ...aliases: string[]) => ({ id, aliases, state: 'ready' }) as unknown as ModelStatus;
const tag = (name: string) => ({ name, size: 1 }) as Tag;
const entry = (name: string, more: Partial<CatalogModel> = {}): CatalogModel => ({ name, aliases: [], kinds: ['chat'], use: '', license: 'mit', quantization: '', context: 0, bytes: 1, memory_bytes: 2, ...more });

test('served models come first, and each has one name', () => {
  const list = inventory([status('demo', 'gpt'), status('a/b:Q4_0')], [tag('gpt:latest'), tag('demo:latest'), tag('other:7b'), tag('a/b:Q4_0')]);
  expect(list.map((h) => [h.name, h.status !== undefined, h.tag !== undefined])).toEqual([
    ['demo', true, true],
    ['a/b:Q4_0', true, true],
    ['other:7b', false, true],
  ]);
});

test('a model is here under its name, and one of a repository in any quantization', () => {
  const tags = [tag('small:latest'), tag('Org/Repo:Q4_K_M')];
  expect(['small', 'org/repo', 'org/repo:q4_k_m', 'org/repo:Q8_0', 'org/rep', 'smal'].map((name) => isHere(name, tags))).toEqual([true, true, true, false, false, false]);
});

test('what fits, and what nobody knows', () => {
  expect([fits(2, 3), fits(3, 3), fits(4, 3), fits(0, 3), fits(2, 0)]).toEqual([true, true, false, null, null]);
});

test('the catalog is searched by words, kind and size', () => {
  const c: Catalog = {
    manage: true,
    offline: false,
    memory_bytes: 10,
    models: [entry('small', { use: 'quick answers', aliases: ['mini'] }), entry('large', { memory_bytes: 11, kinds: ['chat', 'vision'] }), entry('vague', { memory_bytes: 0, license: 'apache-2.0' })],
  };
  const names = (words: string, kind = '', fitting = false) => offered(c, { words, kind, fitting }).map((m) => m.name);
  expect(names('')).toEqual(['small', 'large', 'vague']);
  expect(names('MINI quick')).toEqual(['small']);
  expect(names('apache')).toEqual(['vague']);
  expect(names('', 'vision')).toEqual(['large']);
  expect(names('', '', true)).toEqual(['small', 'vague']);
  expect(kinds(c)).toEqual(['chat', 'vision']);
});

test('a repository is a name with an owner', () => {
  expect(repository(' org/repo ')).toBe('org/repo');
  expect(repository('https://huggingface.co/org/repo-GGUF')).toBe('org/repo-GGUF');
  expect(repository('org/repo:Q4_K_M')).toBe('org/repo:Q4_K_M');
  expect(['qwen', 'a b/c', '/etc/passwd', 'https://evil.example/a/b'].map(repository)).toEqual(['', '', '', '']);
});

test('progress adds up files, and measures what has come since it began', () => {
  let p = advance(noProgress, { status: 'pulling manifest' }, 0);
  expect(p.doing).toBe('pulling manifest');
  p = advance(p, { status: 'pulling x', digest: 'sha256:x', total: 100, completed: 40 }, 1000);
  expect(speed(p)).toBe(0);
  p = advance(p, { status: 'pulling x', digest: 'sha256:x', total: 100, completed: 90 }, 2000);
  p = advance(p, { status: 'pulling y', digest: 'sha256:y', total: 10, completed: 0 }, 3000);
  expect(totals(p, 0)).toEqual({ done: 90, total: 110 });
  expect(totals(p, 500)).toEqual({ done: 90, total: 500 });
  expect(speed(p)).toBe(25);
});

test('durations as people say them', () => {
  expect([0.2, 59, 90, 3700].map(duration)).toEqual(['1 s', '59 s', '2 min', '1 h 2 min']);
});
