import { expect, test } from 'vitest';

import { baseURL, dialects, install, languages, snippet } from '../src/snippets';

const address = 'http://localhost:8080';

test('each API and language has an example, with the address and the model', () => {
  const seen = new Set<string>();
  for (const dialect of dialects) {
    for (const language of languages) {
      const text = snippet(address, dialect, language, 'org/m:Q4', false);
      expect(text).toContain('"org/m:Q4"');
      expect(text).toContain(language === 'curl' ? address : baseURL(address, dialect));
      seen.add(text);
    }
  }
  expect(seen.size).toBe(dialects.length * languages.length);
});

test('a model that embeds is asked to embed, where the API can', () => {
  expect(snippet(address, 'OpenAI', 'Python', 'e', true)).toContain('embeddings.create');
  expect(snippet(address, 'Ollama', 'curl', 'e', true)).toContain('/api/embed');
  expect(snippet(address, 'Anthropic', 'curl', 'e', true)).toBe('');
});

test('a name with quotes stays in its string', () => {
  expect(snippet(address, 'OpenAI', 'curl', `it's "x"`, false)).toContain(String.raw`{"model": "it'\''s \"x\""`);
});

test('the packages by their names', () => {
  expect(install('Anthropic', 'JavaScript')).toBe('npm install @anthropic-ai/sdk');
  expect(install('OpenAI', 'Python')).toBe('pip install openai');
  expect(install('Ollama', 'curl')).toBe('');
});
