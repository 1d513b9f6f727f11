import { expect, test, vi } from 'vitest';

vi.stubGlobal('sessionStorage', { getItem: () => null, setItem: () => {}, removeItem: () => {} });
const { auditLog, heads, row, verdict } = await import('../src/audit');
type AuditRecord = import('../src/audit').AuditRecord;
type AuditReview = import('../src/audit').AuditReview;

const record = (part: Partial<AuditRecord>): AuditRecord => ({ seq: 7, time: '2026-11-27T10:00:00Z', kind: 'request.end', models: [], tokens_in: 0, tokens_out: 0, ...part });
const review = (part: Partial<AuditReview>): AuditReview => ({ log: 'serve-audit-1', file: '0.jsonl', first: 0, records: 8, checkpoint: '', verified: '', holds: true, problems: [], ...part });

test('a record is a row that says who did what, and how it ended', () => {
  const cells = row(record({ name: 'alice', key: 'key_1', address: '10.0.0.7', models: ['demo', 'demo'], tokens_in: 5, tokens_out: 8, status: 200 }));
  expect(cells).toHaveLength(heads.length);
  expect(cells.toSpliced(1, 1)).toEqual(['7', 'request.end', 'alice · 10.0.0.7', 'demo', 13, '200']);
});

test('what has no model says what it was done to, or where it was asked for', () => {
  const about = (part: Partial<AuditRecord>) => row(record(part))[4];
  expect(about({ object: 'key_2', route: '/keys' })).toBe('key_2');
  expect(about({ route: '/audit' })).toBe('/audit');
  expect(about({ route: '/v1/models', count: 1200 })).toBe('/v1/models (1,200)');
  expect(about({})).toBe('');
  expect(row(record({ client: 'address 10.0.0.7', status: 429, error: 'limit' })).slice(3)).toEqual(['address 10.0.0.7', '', 0, '429 limit']);
});

test('the verdict says of which file it is, and does not call it right if it is not', () => {
  expect(verdict(review({ first: 1000, records: 1200 }))).toContain('records 1,000 to 1,199, is what');
  expect(verdict(review({ records: 0 }))).toContain('no records so far');
  expect(verdict(review({ holds: false }))).toContain('is not what');
});

test('the log is asked for with the key, and an error has the server’s words', async () => {
  const fetched = vi.fn(async () => new Response(JSON.stringify({ log: null, records: [] })));
  vi.stubGlobal('fetch', fetched);
  expect(await auditLog()).toEqual({ log: null, records: [] });
  expect(fetched).toHaveBeenCalledWith('/audit', expect.anything());
  vi.stubGlobal('fetch', async () => new Response(JSON.stringify({ error: { message: 'not yours' } }), { status: 403 }));
  await expect(auditLog()).rejects.toThrow('not yours');
});
