// Requests about the models of the server's machine. Only programs there may manage them, or those with a key for it.

import { ask, checked, lines } from './api';
import { may } from './rights';

/** A model that can be downloaded by a short name. What is unknown is 0 or ''. */
export interface CatalogModel {
  name: string;
  aliases: string[];
  kinds: string[];
  use: string;
  license: string;
  quantization: string;
  context: number;
  bytes: number;
  memory_bytes: number; // that it needs
}

export interface Catalog {
  manage: boolean; // this page may download, load, unload and remove models
  offline: boolean; // nothing can be downloaded
  memory_bytes: number; // of the machine; 0 if unknown
  models: CatalogModel[];
}

/** A model in Ollama's list. */
export interface Tag {
  name: string;
  size: number;
  details: { family: string; parameter_size: string; quantization_level: string; context_length?: number };
  capabilities: string[];
}

/** How a download goes on. */
export interface PullLine {
  status?: string;
  digest?: string;
  total?: number;
  completed?: number;
  error?: string;
}

/** What can be downloaded; nothing for a key that may not know. */
export async function catalog(): Promise<Catalog> {
  if (!may('status')) return { manage: false, offline: true, memory_bytes: 0, models: [] };
  return (await checked(await ask('/catalog'))).json();
}

/** The models that are served, and those that are stored if this page may manage them. */
export async function stored(): Promise<Tag[]> {
  if (!may('list')) return [];
  return (await (await checked(await ask('/api/tags'))).json()).models;
}

/** Downloads a model, or what of it is missing. Aborting it keeps what has come. */
export async function pull(model: string, signal: AbortSignal, each: (line: PullLine) => void): Promise<void> {
  await lines(await send('POST', '/api/pull', { model }, signal), signal, (text) => each(JSON.parse(text)));
}

export async function load(model: string): Promise<void> {
  await send('POST', '/api/generate', { model, stream: false });
}

export async function unload(model: string): Promise<void> {
  await send('POST', '/api/generate', { model, keep_alive: 0, stream: false });
}

export async function remove(model: string): Promise<void> {
  await send('DELETE', '/api/delete', { model });
}

export async function send(method: string, path: string, body: object, signal?: AbortSignal): Promise<Response> {
  return checked(await ask(path, { method, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), signal }));
}
