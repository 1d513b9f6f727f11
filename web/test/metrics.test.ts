import { expect, test } from 'vitest';

import { moment, parseMetrics, rate, sum } from '../src/metrics';

const text = `# HELP serve_kv_cells KV cells
# TYPE serve_kv_cells gauge
serve_kv_cells{model="a \\"b\\"\\\\",state="kept"} 12
serve_kv_cells{model="a \\"b\\"\\\\",state="running"} 3
serve_kv_cells{model="c",state="running"} 5
serve_answer_tokens_total{model="c"} 1.5e+03
plain 7 1700000000
serve_time_bucket{le="+Inf"} +Inf
nonsense {
`;

test('names, labels, escapes, numbers', () => {
  const samples = parseMetrics(text);
  expect(samples).toHaveLength(6);
  expect(samples[0]).toEqual({ name: 'serve_kv_cells', labels: { model: 'a "b"\\', state: 'kept' }, value: 12 });
  expect(sum(samples, 'serve_kv_cells', { state: 'running' })).toBe(8);
  expect(sum(samples, 'plain', {})).toBe(7);
  expect(sum(samples, 'serve_time_bucket', {})).toBe(Infinity);
});

test('a rate is of two moments, and not of a counter that began anew', () => {
  const samples = parseMetrics(text);
  const before = moment(samples, 'c', 10);
  expect(before).toMatchObject({ answerTokens: 1500, kvRunning: 5, kvKept: 0 });
  expect(rate(before, { ...before, at: 12, answerTokens: 1600 }, 'answerTokens')).toBe(50);
  expect(rate(before, { ...before, at: 12, answerTokens: 10 }, 'answerTokens')).toBeNull();
  expect(rate(before, before, 'answerTokens')).toBeNull();
});
