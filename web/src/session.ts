// The state and actions of the page: the models, the conversations, the answer in progress. The
// components display it.

import { batch, computed, signal } from '@preact/signals';

import * as api from './api';
import type { TextFile } from './files';
import { wanted } from './key';
import { learn, may } from './rights';
import * as store from './store';
import { add, change, newConversation, path, wire, type Conversation, type Message, type ToolCall } from './tree';

export const models = signal<api.ModelStatus[]>([]);
export const version = signal('');
/** The state of the audit log; null without one. */
export const audit = signal<api.AuditStatus | null>(null);
export const conversations = signal<Conversation[]>([]);
export const current = signal<Conversation>(newConversation());
/** An error outside of any answer; '' for none. */
export const trouble = signal('');

export const shown = computed(() => path(current.value));
/** The model for the next answer: the conversation's, if it is still served. */
export const model = computed(() => {
  const able = models.value.filter((m) => m.generates !== false);
  return able.find((m) => m.id === current.value.model) ?? able[0];
});

/** The answer in progress, with its message and conversation. */
interface Live {
  conversation: string;
  message: string;
  abort: AbortController;
}
export const live = signal<Live | null>(null);
export const answering = computed(() => live.value !== null && live.value.conversation === current.value.id);

export async function refresh(): Promise<void> {
  if (wanted.value) return;
  try {
    await learn();
    const status: Omit<api.Status, 'started'> = may('status') ? await api.status() : { models: may('list') ? await api.listed() : [], version: '' };
    batch(() => {
      models.value = status.models;
      version.value = status.version;
      audit.value = status.audit ?? null;
      trouble.value = '';
    });
  } catch (e) {
    if (api.isForbidden(e)) void learn(true).catch(() => {}); // the key may other things than before
    trouble.value = (e as Error).message;
  }
}

export async function begin(): Promise<void> {
  await refresh();
  try {
    conversations.value = await store.loadAll();
  } catch {
    trouble.value = 'This browser does not store data for the web UI: conversations are lost when you close it.';
  }
}

/** The current version of the conversation with this id. */
function find(id: string): Conversation | undefined {
  return current.value.id === id ? current.value : conversations.value.find((c) => c.id === id);
}

/** Shows the new version of a conversation, and stores it if it has messages. */
function put(c: Conversation, keep = true): void {
  batch(() => {
    if (current.value.id === c.id) current.value = c;
    if (Object.keys(c.messages).length > 0) conversations.value = [c, ...conversations.value.filter((o) => o.id !== c.id)].sort((a, b) => b.updated - a.updated);
  });
  if (keep && Object.keys(c.messages).length > 0) {
    store.save(c).catch(() => (trouble.value = 'This browser is out of storage: the conversation is lost when you close the page.'));
  }
}

/** Changes the current conversation. */
export function set(part: Partial<Conversation>): void {
  put({ ...current.value, ...part });
}

/** Starts a new conversation with the settings of the last. */
export function startNew(): void {
  const { model, system, params, tools } = current.value;
  current.value = newConversation({ model, system, params, tools });
}

export function show(c: Conversation): void {
  current.value = c;
}

/** Adds conversations from elsewhere. Of two with the same id, the one that was changed last stays. */
export async function adopt(list: Conversation[]): Promise<void> {
  const newer = list.filter((c) => Object.keys(c.messages).length > 0 && c.updated > (find(c.id)?.updated ?? 0));
  for (const c of newer) await store.save(c);
  batch(() => newer.forEach((c) => put(c, false)));
}

/** Has conversations kept in this browser, or none. Those that are shown stay as long as the page is open. */
export async function setKeeping(on: boolean): Promise<void> {
  await store.setKeeping(on);
  for (const c of conversations.value) await store.save(c);
}

export async function forget(c: Conversation): Promise<void> {
  if (live.value?.conversation === c.id) stop();
  conversations.value = conversations.value.filter((o) => o.id !== c.id);
  if (current.value.id === c.id) startNew();
  await store.remove(c.id);
}

/** Sends a message and requests the answer. */
export async function send(text: string, images: string[] = [], files: TextFile[] = []): Promise<void> {
  const last = shown.value.at(-1);
  await ask({ id: crypto.randomUUID(), parent: last?.id ?? '', role: 'user', text, ...(images.length ? { images } : {}), ...(files.length ? { files } : {}) });
}

/** Replaces an earlier message, which is kept as another branch. */
export async function edit(m: Message, text: string): Promise<void> {
  await ask({ ...m, id: crypto.randomUUID(), text });
}

/** Sends the results of the last message's tool calls, and requests the answer. */
export async function answerCalls(m: Message, results: string[]): Promise<void> {
  if (live.value) return;
  let c = current.value;
  let parent = m.id;
  for (const [i, call] of (m.calls ?? []).entries()) {
    const id = crypto.randomUUID();
    c = add(c, { id, parent, role: 'tool', text: results[i], callId: call.id });
    parent = id;
  }
  put(c);
  await answer(parent);
}

/** Requests an alternative answer. */
export async function regenerate(m: Message): Promise<void> {
  await answer(m.parent);
}

async function ask(m: Message): Promise<void> {
  if (live.value) return;
  put(add(current.value, m));
  await answer(m.id);
}

export function stop(): void {
  live.value?.abort.abort();
}

/** Fields of the request that the user has set; the server chooses the others. */
export function fields(c: Conversation): Record<string, unknown> {
  const body: Record<string, unknown> = {};
  for (const [name, typed] of Object.entries(c.params)) {
    const value = typed.trim();
    if (value === '') continue;
    body[name] = name === 'stop' ? value.split('\n').filter(Boolean) : Number(value);
  }
  if (c.tools.trim()) body.tools = JSON.parse(c.tools);
  return body;
}

/** How often a growing answer is stored, in ms: closing the page loses at most this much. */
const keepEvery = 2000;

/** Minimum duration of an answer to compute its speed, in ms: shorter ones depend on how the network splits them. */
const shortestMeasured = 20;

/** Requests the answer to a message. */
async function answer(parent: string): Promise<void> {
  const conversation = current.value.id;
  if (live.value || !model.value) return;
  const m: Message = { id: crypto.randomUUID(), parent, role: 'assistant', text: '', model: model.value.id };
  put(add(current.value, m));
  const abort = new AbortController();
  live.value = { conversation, message: m.id, abort };

  let text = '';
  let reasoning = '';
  const calls: ToolCall[] = [];
  const asked = performance.now();
  let first = 0;
  let last = 0;
  let keptAt = asked;
  let drawn = 0;
  const draw = (keep: boolean, part: Partial<Message> = {}) => {
    drawn = 0;
    const c = find(conversation);
    if (c) put(change(c, m.id, { text, ...(reasoning ? { reasoning } : {}), ...(calls.length ? { calls: calls.map((t) => ({ ...t })) } : {}), ...part }), keep);
  };
  try {
    const c = current.value;
    const before = path(c).slice(0, -1);
    await api.streamChat({ ...fields(c), model: m.model, messages: wire(c.system, before) }, abort.signal, (chunk) => {
      const choice = chunk.choices?.[0];
      const delta = choice?.delta;
      if (delta?.content || delta?.reasoning_content || delta?.tool_calls) {
        last = performance.now();
        first ||= last;
      }
      text += delta?.content ?? delta?.refusal ?? '';
      reasoning += delta?.reasoning_content ?? '';
      for (const t of delta?.tool_calls ?? []) {
        const call = (calls[t.index] ??= { id: t.id ?? '', name: '', arguments: '' });
        call.name += t.function?.name ?? '';
        call.arguments += t.function?.arguments ?? '';
      }
      if (choice?.finish_reason) draw(false, { finish: choice.finish_reason });
      if (chunk.usage) {
        const n = chunk.usage.completion_tokens;
        const speed = n > 1 && last - first >= shortestMeasured ? ((n - 1) * 1000) / (last - first) : 0;
        draw(false, { stats: { promptTokens: chunk.usage.prompt_tokens, answerTokens: n, firstTokenMs: first - asked, tokensPerSecond: speed } });
      }
      const keep = performance.now() - keptAt > keepEvery;
      if (keep) keptAt = performance.now();
      if (keep) draw(true);
      else drawn ||= requestAnimationFrame(() => draw(false));
    });
    cancelAnimationFrame(drawn);
    draw(true);
  } catch (e) {
    cancelAnimationFrame(drawn);
    if (abort.signal.aborted) draw(true, { finish: 'stopped' });
    else draw(true, { error: (e as Error).message });
    void refresh();
  } finally {
    live.value = null;
  }
}
