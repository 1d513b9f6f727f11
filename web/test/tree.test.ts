import { expect, test } from 'vitest';

import { add, branches, change, newConversation, path, turn, wire, type Message } from '../src/tree';

const message = (id: string, parent: string, role: Message['role'], text: string): Message => ({ id, parent, role, text });

test('a message that is edited is another branch, and the old one can be shown again', () => {
  let c = newConversation();
  c = add(c, message('q', '', 'user', 'Hello there\nyou'));
  c = add(c, message('a', 'q', 'assistant', 'Hi'));
  c = add(c, message('q2', 'a', 'user', 'More'));
  c = add(c, message('e', '', 'user', 'Edited'));
  expect(path(c).map((m) => m.id)).toEqual(['e']);
  expect(branches(c, '').map((m) => m.id)).toEqual(['q', 'e']);
  c = turn(c, c.messages.e, -1);
  expect(path(c).map((m) => m.id)).toEqual(['q', 'a', 'q2']);
  expect(turn(c, c.messages.q, -1)).toBe(c);
  expect(c.title).toBe('Hello there');
});

test('a change leaves the rest as it was, and what is gone is not changed', () => {
  const c = add(newConversation(), message('q', '', 'user', 'Hello'));
  expect(change(c, 'q', { text: 'Bye' }).messages.q.text).toBe('Bye');
  expect(c.messages.q.text).toBe('Hello');
  expect(change(c, 'none', { text: 'x' })).toBe(c);
});

test('a title is short, also of an image', () => {
  expect(add(newConversation(), message('q', '', 'user', 'x'.repeat(100))).title).toHaveLength(60);
  expect(add(newConversation(), { ...message('q', '', 'user', ''), images: ['data:'] }).title).toBe('An image');
});

test('on the wire: images before the text, calls with their results, no empty system prompt', () => {
  const call = { id: 'c1', name: 'f', arguments: '{}' };
  expect(
    wire(' ', [
      { ...message('1', '', 'user', 'What?'), images: ['data:image/png;base64,AA=='] },
      { ...message('2', '1', 'assistant', ''), calls: [call], reasoning: 'hm' },
      { ...message('3', '2', 'tool', 'r'), callId: 'c1' },
      message('4', '3', 'assistant', 'So.'),
    ]),
  ).toEqual([
    { role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AA==' } }, { type: 'text', text: 'What?' }] },
    { role: 'assistant', content: null, tool_calls: [{ id: 'c1', type: 'function', function: { name: 'f', arguments: '{}' } }] },
    { role: 'tool', tool_call_id: 'c1', content: 'r' },
    { role: 'assistant', content: 'So.' },
  ]);
});

test('on the wire: files are parts of the message, before images and text', () => {
  const m = { ...message('1', '', 'user', 'What?'), images: ['data:image/png;base64,AA=='], files: [{ name: 'a.txt', text: 'hi' }] };
  expect(wire('', [m])).toEqual([
    {
      role: 'user',
      content: [
        { type: 'file', file: { filename: 'a.txt', file_data: 'aGk=' } },
        { type: 'image_url', image_url: { url: 'data:image/png;base64,AA==' } },
        { type: 'text', text: 'What?' },
      ],
    },
  ]);
  expect(add(newConversation(), { ...message('q', '', 'user', ''), files: m.files }).title).toBe('a.txt');
});
