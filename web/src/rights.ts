// What the page may do here: what its key is for, or everything where the server wants no keys. The page asks for nothing
// that it may not have.

import { signal } from '@preact/signals';

import { ask, checked } from './api';

export interface Limits {
  requests_per_minute?: number;
  tokens_per_minute?: number;
  tokens_per_day?: number;
  concurrent?: number;
  bytes_in_flight?: number;
  bytes_stored?: number;
}

/** A key, as the server describes it. */
export interface KeyView {
  id: string;
  name: string;
  tenant: string;
  scopes: string[];
  models: string[]; // none for all
  limits: Limits;
  state: string;
  created?: string;
  expires?: string;
  revoked?: string;
  last_used?: string;
  made_by?: string; // the id of an administrator's key
  tokens_today: number;
  secret?: string; // once
}

export interface Rights {
  required: boolean; // the server wants keys
  manages: boolean; // models
  administers: '' | 'tenant' | 'server'; // whose keys
  key: KeyView | null;
}

/** What this page may do; null while that is not known. */
export const rights = signal<Rights | null>(null);

/** The scopes of which a key needs one for a permission of the server's endpoints. */
const scopes = {
  use: ['inference'],
  list: ['models', 'inference', 'admin'],
  status: ['metrics', 'admin'],
};

/** Whether this page has a permission: while that is not known, none. */
export function may(permission: keyof typeof scopes): boolean {
  const r = rights.value;
  if (!r) return false;
  return !r.required || scopes[permission].some((s) => r.key?.scopes.includes(s));
}

let learning: Promise<void> | null = null;
let turn = 0; // of keys: an answer for an earlier one comes too late

/** Asks what this page may do, unless that is known, or again. */
export function learn(again = false): Promise<void> {
  if (rights.value && !again) return Promise.resolve();
  const mine = turn;
  const read = async () => {
    const answer: Rights = await (await checked(await ask('/key'))).json();
    if (mine === turn) rights.value = answer;
  };
  learning ??= read().finally(() => mine === turn && (learning = null));
  return learning;
}

/** The page has another key from now on. */
export function forgetRights(): void {
  turn++;
  learning = null;
  rights.value = null;
}
