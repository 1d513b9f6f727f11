// Conversations are stored only in this browser's IndexedDB.

import { openDB, type DBSchema, type IDBPDatabase } from 'idb';

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

export async function save(c: Conversation): Promise<void> {
  await (await open()).put('conversations', c);
}

export async function remove(id: string): Promise<void> {
  await (await open()).delete('conversations', id);
}
