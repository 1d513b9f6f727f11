// The state and actions of the page of models: what is here, what can be downloaded, downloads.

import { batch, signal } from '@preact/signals';

import { advance, noProgress, type Progress } from './inventory';
import * as manage from './manage';
import { learn } from './rights';
import { refresh as refreshStatus } from './session';
import { keeping } from './store';

export const catalog = signal<manage.Catalog | null>(null);
/** The models with files; null until they have been read. */
export const tags = signal<manage.Tag[] | null>(null);
/** What is being done with a model: loading, unloading, removing. */
export const busy = signal<Record<string, string>>({});
/** Why something could not be done; '' for nothing. */
export const problem = signal('');

/** A download. One that was ended before its end is kept, to be resumed. */
export interface Fetch {
  name: string;
  progress: Progress;
  abort: AbortController | null; // null if it is not running
  error: string;
}
export const fetches = signal<Fetch[]>([]);

export async function look(): Promise<void> {
  try {
    await learn();
    const known = catalog.value ?? (await manage.catalog());
    const list = await manage.stored();
    batch(() => {
      catalog.value = known;
      tags.value = list;
    });
  } catch (e) {
    problem.value = (e as Error).message;
  }
}

/** Forgets what another key was told. */
export function unlook(): void {
  catalog.value = null;
  tags.value = null;
}

/** Does something with a model, and looks at the result. */
async function act(name: string, doing: string, action: (name: string) => Promise<void>): Promise<void> {
  if (busy.value[name]) return;
  batch(() => {
    busy.value = { ...busy.value, [name]: doing };
    problem.value = '';
  });
  try {
    await action(name);
  } catch (e) {
    problem.value = `${name}: ${(e as Error).message}`;
  }
  await Promise.all([refreshStatus(), look()]);
  busy.value = Object.fromEntries(Object.entries(busy.value).filter(([other]) => other !== name));
}

export const load = (name: string) => act(name, 'loading', manage.load);
export const unload = (name: string) => act(name, 'unloading', manage.unload);
export const remove = (name: string) => act(name, 'removing', manage.remove);

/** Where the names of downloads are kept that have not ended. */
const kept = 'serve.fetches';

function change(name: string, part: Partial<Fetch> | null): void {
  fetches.value = fetches.value.flatMap((f) => (f.name !== name ? f : part ? { ...f, ...part } : []));
}

function keep(): void {
  if (keeping.value) localStorage.setItem(kept, JSON.stringify(fetches.value.map((f) => f.name)));
}

/** Starts or resumes a download. */
export async function fetchModel(name: string): Promise<void> {
  const known = fetches.value.find((f) => f.name === name);
  if (known?.abort) return;
  const abort = new AbortController();
  const fresh = { name, progress: noProgress, abort, error: '' };
  if (known) change(name, fresh);
  else fetches.value = [fresh, ...fetches.value];
  keep();

  let progress = noProgress;
  let success = false;
  try {
    await manage.pull(name, abort.signal, (line) => {
      if (line.error) throw new Error(line.error);
      success ||= line.status === 'success';
      progress = advance(progress, line, performance.now());
      change(name, { progress });
    });
    if (!success) throw new Error('The server ended the download before it was complete.');
    change(name, null);
    await Promise.all([refreshStatus(), look()]);
  } catch (e) {
    change(name, { abort: null, error: abort.signal.aborted ? '' : (e as Error).message });
  }
  keep();
}

/** Ends a download. What has come stays on the disk of the server's machine. */
export function cancel(f: Fetch): void {
  f.abort?.abort();
}

export function dismiss(f: Fetch): void {
  change(f.name, null);
  keep();
}

/** Finds the downloads that an earlier page has begun. */
export function recall(): void {
  let names: unknown = [];
  try {
    names = JSON.parse(localStorage.getItem(kept) ?? '[]');
  } catch {
    // Not ours: there is nothing to resume.
  }
  const list = Array.isArray(names) ? names.filter((n): n is string => typeof n === 'string') : [];
  fetches.value = list.map((name) => ({ name, progress: noProgress, abort: null, error: '' }));
}

/** Leaving the page ends its downloads, so the browser asks. */
export function guardLeaving(): void {
  addEventListener('beforeunload', (e) => {
    if (fetches.value.some((f) => f.abort)) e.preventDefault();
  });
}
