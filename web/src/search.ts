// Search in conversations, and their export and import.

import { path, type Conversation, type Message } from './tree';

/** A conversation that a search has found, and where: '' if it is in the title. */
export interface Found {
  conversation: Conversation;
  excerpt: string;
}

/** Number of characters around a match that are shown. */
const around = 30;

/** The conversations that contain every word, in titles, messages or files, of any branch. */
export function search(list: Conversation[], query: string): Found[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found: Found[] = [];
  for (const conversation of list) {
    const texts = [conversation.title, ...Object.values(conversation.messages).flatMap(textsOf)];
    const whole = texts.join('\n').toLowerCase();
    if (!words.every((w) => whole.includes(w))) continue;
    const inTitle = words.every((w) => conversation.title.toLowerCase().includes(w));
    found.push({ conversation, excerpt: inTitle ? '' : excerpt(texts.slice(1), words) });
  }
  return found;
}

function textsOf(m: Message): string[] {
  return [m.text, ...(m.files ?? []).flatMap((f) => [f.name, f.text])];
}

/** The first place of a word, with what surrounds it. */
function excerpt(texts: string[], words: string[]): string {
  for (const text of texts) {
    for (const word of words) {
      const at = text.toLowerCase().indexOf(word);
      if (at < 0) continue;
      const from = Math.max(0, at - around);
      const to = at + word.length + around;
      const part = text.slice(from, to).replace(/\s+/g, ' ').trim();
      return (from > 0 ? '…' : '') + part + (to < text.length ? '…' : '');
    }
  }
  return '';
}

/** The branch that is shown, as Markdown. */
export function toMarkdown(c: Conversation): string {
  const parts = [`# ${c.title}`];
  if (c.system.trim()) parts.push('## System', c.system.trim());
  for (const m of path(c)) {
    parts.push(`## ${headingOf(m)}`);
    for (const f of m.files ?? []) parts.push(`File ${f.name}:`, fenced(f.text));
    if (m.images?.length) parts.push(`*${m.images.length === 1 ? 'An image' : `${m.images.length} images`}, which Markdown does not contain*`);
    if (m.reasoning) parts.push('> ' + m.reasoning.trim().replaceAll('\n', '\n> '));
    if (m.text) parts.push(m.role === 'tool' ? fenced(m.text) : m.text.trim());
    for (const call of m.calls ?? []) parts.push(`Calls \`${call.name}\`:`, fenced(call.arguments, 'json'));
  }
  return parts.join('\n\n') + '\n';
}

function headingOf(m: Message): string {
  if (m.role === 'user') return 'You';
  return m.role === 'tool' ? 'Result of a tool' : (m.model ?? 'Answer');
}

/** A block of code, whose fence is longer than any in the text. */
function fenced(text: string, language = ''): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}${language}\n${text.replace(/\n$/, '')}\n${fence}`;
}

/** The mark of exported conversations. */
const format = 'serve.conversations';
const formatVersion = 1;

/** Maximum size of a file to import, in bytes. */
export const largestImport = 256 << 20;

/** Conversations with all their branches, as a JSON file. */
export function toJSON(list: Conversation[]): string {
  return JSON.stringify({ format, version: formatVersion, conversations: list }, null, 1) + '\n';
}

/** The conversations of an exported file. It throws if it is none. */
export function fromJSON(text: string): Conversation[] {
  let file: { format?: unknown; version?: unknown; conversations?: unknown };
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error('it is not JSON');
  }
  if (file?.format !== format || !Array.isArray(file.conversations)) throw new Error('it was not exported by this web UI');
  if (file.version !== formatVersion) throw new Error(`its version is ${String(file.version)}, and this web UI reads ${formatVersion}`);
  return file.conversations.map((c, i) => {
    const read = conversationOf(c);
    if (!read) throw new Error(`its conversation ${i + 1} is damaged`);
    return read;
  });
}

const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);
const isText = (v: unknown): v is string => typeof v === 'string';
const isTexts = (v: unknown): v is Record<string, string> => isObject(v) && Object.values(v).every(isText);
const absentOr = (v: unknown, is: (v: unknown) => boolean) => v === undefined || is(v);
const listOf = (is: (v: unknown) => boolean) => (v: unknown) => Array.isArray(v) && v.every(is);

/** A conversation that can be shown; null if it is none. */
function conversationOf(v: unknown): Conversation | null {
  if (!isObject(v) || !isObject(v.messages)) return null;
  const { id, title, updated, model, system, params, tools, messages, chosen } = v;
  const texts = [id, title, model, system, tools].every(isText);
  if (!texts || typeof updated !== 'number' || !isTexts(params) || !isTexts(chosen)) return null;
  if (!Object.entries(messages).every(([key, m]) => isMessage(m) && m.id === key && key !== '')) return null;
  // Each message is shown after its own parent, so that there is an end.
  if (!Object.entries(chosen).every(([parent, shown]) => (messages[shown] as Message | undefined)?.parent === parent)) return null;
  return { id, title, updated, model, system, params, tools, messages, chosen } as Conversation;
}

function isMessage(v: unknown): v is Message {
  return (
    isObject(v) &&
    [v.id, v.parent, v.text].every(isText) &&
    ['user', 'assistant', 'tool'].includes(v.role as string) &&
    absentOr(v.images, listOf((url) => isText(url) && url.startsWith('data:image/'))) &&
    absentOr(v.files, listOf((f) => isObject(f) && isText(f.name) && isText(f.text))) &&
    absentOr(v.calls, listOf((c) => isObject(c) && [c.id, c.name, c.arguments].every(isText))) &&
    [v.reasoning, v.callId, v.model, v.finish, v.error].every((t) => absentOr(t, isText)) &&
    absentOr(v.stats, (s) => isObject(s) && Object.values(s).every((n) => typeof n === 'number'))
  );
}

/** A file's name of a title. */
export function fileName(title: string, extension: string): string {
  const name = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '').slice(0, 60);
  return `${name || 'conversation'}.${extension}`;
}
