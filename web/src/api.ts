// Requests to the server: OpenAI's API, /status and /metrics, all on this origin.

import { createParser } from 'eventsource-parser';

import { refused, withKey } from './key';

export interface ModelStatus {
  id: string;
  state: string;
  aliases: string[];
  at_start: boolean; // the server was started with it: it cannot be removed
  sees_images: boolean | null; // null if it is not loaded: unknown until then
  generates: boolean | null;
  process: number;
  resident_bytes: number;
  planned_bytes: number;
  devices: { name: string; description: string }[]; // that it runs on; empty if it is not loaded
  why_processor: string; // why no GPU is used
  slots: number;
  context: number;
  running: number;
  queued: number;
  kv_cells_used: number;
  kv_cells_kept: number;
  kv_cells: number;
  tokens_per_second: number;
  restarts: number;
}

/** How the audit log is. */
export interface AuditStatus {
  records: number;
  failing?: string; // why records cannot be written
  lost: number; // records that could not be written, since the start
  continue: boolean; // work goes on while records cannot be written
}

export interface Status {
  version: string;
  started: string;
  models: ModelStatus[];
  audit?: AuditStatus; // absent without an audit log
}

/** An error with the server's own message. */
export class ServerError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly param: string | null = null,
  ) {
    super(message);
  }
}

/** The response, or its error if it is one. */
export async function checked(response: Response): Promise<Response> {
  if (response.ok) return response;
  const text = await response.text();
  let error: { message?: string; param?: string | null } = {};
  try {
    const said = JSON.parse(text).error ?? {};
    error = typeof said === 'string' ? { message: said } : said; // Ollama's is the message alone
  } catch {
    // For example a proxy's page: use the status instead.
  }
  throw new ServerError(error.message ?? `The server answered ${response.status} ${response.statusText}.`, response.status, error.param);
}

/** Fetches, with the API key if there is one. A failed fetch only says "Failed to fetch". */
export async function ask(url: string, init?: RequestInit): Promise<Response> {
  try {
    const headers = withKey(init?.headers);
    const response = await fetch(url, { ...init, headers });
    if (response.status === 401) refused(headers);
    return response;
  } catch (e) {
    if (e instanceof DOMException && e.name === 'AbortError') throw e;
    throw new ServerError('The server cannot be reached. Is serve still running?', 0);
  }
}

export async function status(signal?: AbortSignal): Promise<Status> {
  return (await checked(await ask('/status', { signal }))).json();
}

/** The models that the key may use, with no more than their names: for keys that may not see the status. */
export async function listed(): Promise<ModelStatus[]> {
  const { data } = await (await checked(await ask('/v1/models'))).json();
  return data.map(({ id }: { id: string }) => ({ ...unseen, id }));
}

/** A model of which nothing is known. */
const unseen: ModelStatus = {
  id: '',
  state: '',
  aliases: [],
  at_start: true,
  sees_images: null,
  generates: null,
  process: 0,
  resident_bytes: 0,
  planned_bytes: 0,
  devices: [],
  why_processor: '',
  slots: 0,
  context: 0,
  running: 0,
  queued: 0,
  kv_cells_used: 0,
  kv_cells_kept: 0,
  kv_cells: 0,
  tokens_per_second: 0,
  restarts: 0,
};

/** Whether an error says that the key may not do something. */
export const isForbidden = (e: unknown) => e instanceof ServerError && e.status === 403;

export async function metrics(signal?: AbortSignal): Promise<string> {
  return (await checked(await ask('/metrics', { signal }))).text();
}

/** A part of an answer. */
export interface Chunk {
  choices?: {
    delta?: {
      content?: string | null;
      reasoning_content?: string | null;
      refusal?: string | null;
      tool_calls?: { index: number; id?: string; function?: { name?: string; arguments?: string } }[];
    };
    finish_reason?: string | null;
  }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
  error?: { message: string };
}

/**
 * Asks for a chat completion and hands over its chunks as they come. It returns when the server
 * has said that it is done, and throws if the answer ends before that.
 */
export async function streamChat(body: object, signal: AbortSignal, each: (chunk: Chunk) => void): Promise<void> {
  const response = await checked(
    await ask('/v1/chat/completions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
      signal,
    }),
  );
  let done = false;
  const parser = createParser({
    onEvent: ({ data }) => {
      if (data === '[DONE]') {
        done = true;
        return;
      }
      const chunk: Chunk = JSON.parse(data);
      if (chunk.error) throw new ServerError(chunk.error.message, 200);
      each(chunk);
    },
  });
  await read(response, signal, (text) => parser.feed(text), 'The connection to the server was lost. The answer so far is kept.');
  if (!done) throw new ServerError('The server ended the answer before it was complete.', 0);
}

/** Hands over the lines of a response as they come. */
export async function lines(response: Response, signal: AbortSignal, each: (line: string) => void): Promise<void> {
  let begun = '';
  const feed = (text: string) => {
    const parts = (begun + text).split('\n');
    begun = parts.pop()!;
    parts.filter(Boolean).forEach(each);
  };
  await read(response, signal, feed, 'The connection to the server was lost.');
}

/** Reads a response to its end. An error of the connection is told as lost. */
async function read(response: Response, signal: AbortSignal, feed: (text: string) => void, lost: string): Promise<void> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      feed(value);
    }
  } catch (e) {
    if (e instanceof ServerError || signal.aborted) throw e;
    throw new ServerError(lost, 0);
  }
}
