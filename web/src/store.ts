// Conversations are stored only in this browser's IndexedDB, unless the user wants nothing to be kept: whoever
// serves a page at this address later could read it.

import { openDB, type DBSchema, type IDBPDatabase } from 'idb';

import { signal } from '@preact/signals';

import type { Conversation } from './tree';

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation; indexes: { updated: number } };
}

let database: Promise<IDBPDatabase<Schema>> | undefined;

function open(): Promise<IDBPDatabase<Schema>> {
  return (database ??= openDB<Schema>('serve', 1, {
    upgrade: (db) => db.createObjectStore('conversations', { keyPath: 'id' }).createIndex('updated', 'updated'),
  }));
}

/** All conversations, the newest first. */
export async function loadAll(): Promise<Conversation[]> {
  return (await (await open()).getAllFromIndex('conversations', 'updated')).reverse();
}

const nothing = 'keep-nothing';

/** Whether conversations are stored. */
export const keeping = signal(localStorage.getItem(nothing) === null);

/** Begins to store conversations, or stops that and removes those that are stored. */
export async function setKeeping(on: boolean): Promise<void> {
  keeping.value = on;
  if (on) return localStorage.removeItem(nothing);
  localStorage.clear();
  localStorage.setItem(nothing, '');
  await (await open()).clear('conversations');
}

export async function save(c: Conversation): Promise<void> {
  if (!keeping.value) return;
  await (await open()).put('conversations', c);
}

export async function remove(id: string): Promise<void> {
  await (await open()).delete('conversations', id);
}
