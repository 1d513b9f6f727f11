// A conversation is a tree: who edits a message or asks for another answer adds a branch beside
// the old one, and loses nothing. What is shown, and sent, is one path through it.

export type Role = 'user' | 'assistant' | 'tool';

export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}

/** How an answer came: tokens as the server counted them, times as this page saw them. */
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
  reasoning?: string;
  calls?: ToolCall[];
  callId?: string; // of the call that a tool's message answers
  model?: string;
  finish?: string; // why an answer ended: OpenAI's finish_reason, or 'stopped' by who asked
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
  chosen: Record<string, string>; // of a message's branches, the one that is shown
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

/** The conversation with one message more, which is shown. */
export function add(c: Conversation, m: Message): Conversation {
  const title = c.title || (m.role === 'user' ? titleOf(m) : '');
  return { ...c, title, updated: Date.now(), messages: { ...c.messages, [m.id]: m }, chosen: { ...c.chosen, [m.parent]: m.id } };
}

/** The conversation with one message changed. */
export function change(c: Conversation, id: string, part: Partial<Message>): Conversation {
  const m = c.messages[id];
  return m ? { ...c, updated: Date.now(), messages: { ...c.messages, [id]: { ...m, ...part } } } : c;
}

/** The conversation with another branch shown: the step-th from the one of this message. */
export function turn(c: Conversation, m: Message, step: number): Conversation {
  const all = branches(c, m.parent);
  const next = all[all.findIndex((b) => b.id === m.id) + step];
  return next ? { ...c, chosen: { ...c.chosen, [m.parent]: next.id } } : c;
}

function titleOf(m: Message): string {
  const line = m.text.trim().split('\n')[0] || 'An image';
  return line.length > 60 ? line.slice(0, 59) + '…' : line;
}

/** What OpenAI's API takes for messages up to and with the last one. */
export function wire(system: string, messages: Message[]): object[] {
  const list: object[] = system.trim() ? [{ role: 'system', content: system }] : [];
  for (const m of messages) {
    if (m.role === 'tool') {
      list.push({ role: 'tool', tool_call_id: m.callId, content: m.text });
    } else if (m.role === 'assistant') {
      const calls = m.calls?.map((t) => ({ id: t.id, type: 'function', function: { name: t.name, arguments: t.arguments } }));
      list.push({ role: 'assistant', content: m.text || (calls?.length ? null : ''), ...(calls?.length ? { tool_calls: calls } : {}) });
    } else if (m.images?.length) {
      const parts: object[] = m.images.map((url) => ({ type: 'image_url', image_url: { url } }));
      if (m.text) parts.push({ type: 'text', text: m.text });
      list.push({ role: 'user', content: parts });
    } else {
      list.push({ role: 'user', content: m.text });
    }
  }
  return list;
}
