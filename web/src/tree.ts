// A conversation is a tree: editing a message or requesting another answer adds a branch beside
// the old one, and nothing is lost. One path through the tree is shown and sent.

import { filePart, type TextFile } from './files';

export type Role = 'user' | 'assistant' | 'tool';

export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}

/** Statistics of an answer: tokens as counted by the server, times as measured by the page. */
export interface Stats {
  promptTokens: number;
  answerTokens: number;
  firstTokenMs: number;
  tokensPerSecond: number;
}

export interface Message {
  id: string;
  parent: string; // '' for the first
  role: Role;
  text: string;
  images?: string[]; // data URLs
  files?: TextFile[];
  reasoning?: string;
  calls?: ToolCall[];
  callId?: string; // of the call that a tool's message answers
  model?: string;
  finish?: string; // why an answer ended: OpenAI's finish_reason, or 'stopped' by the user
  error?: string;
  stats?: Stats;
}

export interface Conversation {
  id: string;
  title: string;
  updated: number; // ms since 1970
  model: string;
  system: string;
  params: Record<string, string>; // as they were typed
  tools: string; // JSON, as it was typed
  messages: Record<string, Message>;
  chosen: Record<string, string>; // the branch of each message that is shown
}

export function newConversation(from?: Partial<Conversation>): Conversation {
  return { id: crypto.randomUUID(), title: '', updated: Date.now(), model: '', system: '', params: {}, tools: '', messages: {}, chosen: {}, ...from };
}

/** The branches that follow a message, oldest first. */
export function branches(c: Conversation, parent: string): Message[] {
  return Object.values(c.messages).filter((m) => m.parent === parent);
}

/** The messages that are shown. */
export function path(c: Conversation): Message[] {
  const shown: Message[] = [];
  for (let at = c.chosen['']; at !== undefined && c.messages[at]; at = c.chosen[at]) shown.push(c.messages[at]);
  return shown;
}

/** Adds a message to the conversation, and shows it. */
export function add(c: Conversation, m: Message): Conversation {
  const title = c.title || (m.role === 'user' ? titleOf(m) : '');
  return { ...c, title, updated: Date.now(), messages: { ...c.messages, [m.id]: m }, chosen: { ...c.chosen, [m.parent]: m.id } };
}

/** Changes a message of the conversation. */
export function change(c: Conversation, id: string, part: Partial<Message>): Conversation {
  const m = c.messages[id];
  return m ? { ...c, updated: Date.now(), messages: { ...c.messages, [id]: { ...m, ...part } } } : c;
}

/** Shows another branch of the conversation: the step-th from that of this message. */
export function turn(c: Conversation, m: Message, step: number): Conversation {
  const all = branches(c, m.parent);
  const next = all[all.findIndex((b) => b.id === m.id) + step];
  return next ? { ...c, chosen: { ...c.chosen, [m.parent]: next.id } } : c;
}

function titleOf(m: Message): string {
  const line = m.text.trim().split('\n')[0] || m.files?.[0]?.name || 'An image';
  return line.length > 60 ? line.slice(0, 59) + '…' : line;
}

/** The messages up to the last one, in the format of OpenAI's API. */
export function wire(system: string, messages: Message[]): object[] {
  const list: object[] = system.trim() ? [{ role: 'system', content: system }] : [];
  for (const m of messages) {
    if (m.role === 'tool') {
      list.push({ role: 'tool', tool_call_id: m.callId, content: m.text });
    } else if (m.role === 'assistant') {
      const calls = m.calls?.map((t) => ({ id: t.id, type: 'function', function: { name: t.name, arguments: t.arguments } }));
      list.push({ role: 'assistant', content: m.text || (calls?.length ? null : ''), ...(calls?.length ? { tool_calls: calls } : {}) });
    } else if (m.images?.length || m.files?.length) {
      const parts: object[] = [...(m.files ?? []).map(filePart), ...(m.images ?? []).map((url) => ({ type: 'image_url', image_url: { url } }))];
      if (m.text) parts.push({ type: 'text', text: m.text });
      list.push({ role: 'user', content: parts });
    } else {
      list.push({ role: 'user', content: m.text });
    }
  }
  return list;
}
