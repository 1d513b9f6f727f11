import { expect, test } from 'vitest';

import { bytes, filePart, largestFile, readText, sizeOf } from '../src/files';

const utf8 = (text: string) => new TextEncoder().encode(text);

test('text is read, also with a byte order mark', () => {
  expect(readText('a.md', utf8('Grüße\n'))).toEqual({ file: { name: 'a.md', text: 'Grüße\n' } });
  expect(readText('a.csv', new Uint8Array([0xef, 0xbb, 0xbf, 0x61]))).toEqual({ file: { name: 'a.csv', text: 'a' } });
});

test.each([
  ['empty', new Uint8Array(), /is empty/],
  ['binary', new Uint8Array([0x61, 0, 0x62]), /binary/],
  ['Latin-1', new Uint8Array([0x47, 0x72, 0xfc, 0xdf, 0x65]), /not UTF-8/],
  ['a PDF', utf8('%PDF-1.7\n'), /PDF/],
  ['too large', new Uint8Array(largestFile + 1).fill(0x61), /larger than 1.0 MiB/],
])('%s is refused by its name', (_, content, why) => {
  const result = readText('f.x', content);
  expect('refused' in result && result.refused).toMatch(why);
  expect('refused' in result && result.refused).toMatch(/^f\.x /);
});

test('a part of a message has the content in base64', () => {
  const text = 'é'.repeat(20_000);
  const part = filePart({ name: 'a.txt', text }) as { file: { filename: string; file_data: string } };
  expect(part.file.filename).toBe('a.txt');
  expect(Buffer.from(part.file.file_data, 'base64').toString()).toBe(text);
  expect(sizeOf({ name: '', text }, { name: '', text: 'a' })).toBe(40_001);
});

test('sizes as people write them', () => {
  expect([0, 1023, 1024, 1536, 10 * 1024, 5 * 2 ** 30].map(bytes)).toEqual(['0 B', '1023 B', '1.0 KiB', '1.5 KiB', '10 KiB', '5.0 GiB']);
});
