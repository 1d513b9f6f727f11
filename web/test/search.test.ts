import { expect, test } from 'vitest';

import { fileName, fromJSON, search, toJSON, toMarkdown } from '../src/search';
import { add, newConversation, turn, type Conversation, type Message } from '../src/tree';

const message = (id: string, parent: string, role: Message['role'], text: string, more: Partial<Message> = {}): Message => ({ id, parent, role, text, ...more });

function example(): Conversation {
  let c = add(newConversation({ system: 'Be brief.' }), message('q', '', 'user', 'About whales', { files: [{ name: 'notes.md', text: 'a ```fence``` of krill\n' }] }));
  c = add(c, message('a', 'q', 'assistant', 'They sing. '.repeat(20) + 'They breathe air.', { model: 'tiny', reasoning: 'Hm.\nYes.' }));
  return add(c, message('b', 'q', 'assistant', 'Another answer', { model: 'tiny', calls: [{ id: '1', name: 'f', arguments: '{}' }] }));
}

test('every word has to be somewhere: in titles, messages of any branch, files', () => {
  const list = [example(), add(newConversation(), message('x', '', 'user', 'About bread'))];
  const titles = (query: string) => search(list, query).map((f) => f.conversation.title);
  expect(titles('about')).toEqual(['About whales', 'About bread']);
  expect(titles('WHALES breathe')).toEqual(['About whales']);
  expect(titles('krill')).toEqual(['About whales']);
  expect(titles('whales bread')).toEqual([]);
  expect(search(list, 'breathe')[0].excerpt).toMatch(/^….*They breathe air\.$/);
  expect(search(list, 'bread')[0].excerpt).toBe('');
});

test('Markdown has the branch that is shown, and fences that hold', () => {
  const c = turn(example(), example().messages.b, -1);
  const text = toMarkdown(c);
  expect(text).toMatch(/^# About whales\n\n## System\n\nBe brief\.\n\n## You\n\nFile notes\.md:\n\n````\na ```fence``` of krill\n````\n\nAbout whales\n\n## tiny\n\n> Hm\.\n> Yes\.\n\nThey sing\./);
  expect(text).not.toMatch(/Another answer/);
  expect(toMarkdown(example())).toMatch(/Calls `f`:\n\n```json\n\{\}\n```/);
});

test('what was exported can be imported, and is the same', () => {
  const list = [example(), example()];
  expect(fromJSON(toJSON(list))).toEqual(list);
});

test.each([
  ['no JSON', '{', /not JSON/],
  ['null', 'null', /not exported/],
  ['another file', '[]', /not exported/],
  ['a later version', '{"format":"serve.conversations","version":2,"conversations":[]}', /version is 2/],
  ['a conversation without messages', '{"format":"serve.conversations","version":1,"conversations":[{"id":"x"}]}', /conversation 1 is damaged/],
])('%s is refused', (_, text, why) => {
  expect(() => fromJSON(text)).toThrow(why);
});

test.each([
  ['a ring of messages', (c: Conversation) => (c.chosen.a = 'q')],
  ['a message under another name', (c: Conversation) => (c.messages.z = c.messages.a)],
  ['an image from elsewhere', (c: Conversation) => (c.messages.a.images = ['https://example.org/x.png'])],
  ['a number for a text', (c: Conversation) => ((c.messages.a as { text: unknown }).text = 7)],
  ['a role that is none', (c: Conversation) => ((c.messages.a as { role: unknown }).role = 'root')],
])('%s is damage', (_, harm) => {
  const c = structuredClone(example());
  harm(c);
  expect(() => fromJSON(toJSON([c]))).toThrow(/damaged/);
});

test('names of files have no characters that a system refuses', () => {
  expect(fileName('What is 1/2? Größe', 'md')).toBe('what-is-1-2-größe.md');
  expect(fileName('???', 'json')).toBe('conversation.json');
});
