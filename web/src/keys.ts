// API keys and what they use: the server's endpoints for administrators, and what the page shows of them.

import { ask, checked } from './api';
import { send } from './manage';
import type { KeyView, Limits } from './rights';

/** A key of the list. */
export interface Key extends KeyView {
  manageable: boolean; // this page's key may rotate and revoke it
}

export interface KeyList {
  administers: 'tenant' | 'server';
  keys: Key[];
}

export interface TenantUsage {
  tenant: string;
  keys: number;
  tokens_today: number;
  requests_running: number;
  requests_waiting: number;
}

export interface KeyUsage extends Omit<TenantUsage, 'keys'> {
  id: string;
  name: string;
}

export interface Usage {
  day: string; // in UTC
  tenants: TenantUsage[];
  keys: KeyUsage[]; // that have used something today, or do now
}

export const scopes = ['inference', 'models', 'metrics', 'admin'];

/** What the scopes let a key do. */
export const meaning: Record<string, string> = {
  inference: 'ask models, and use what is stored for that',
  models: 'list the models',
  metrics: 'read status and metrics',
  admin: 'manage models and keys',
};

export async function list(): Promise<KeyList> {
  return (await checked(await ask('/keys'))).json();
}

export async function usage(signal?: AbortSignal): Promise<Usage> {
  return (await checked(await ask('/usage', { signal }))).json();
}

export async function create(body: object): Promise<KeyView> {
  return (await send('POST', '/keys', body)).json();
}

/** Gives a key another secret. The earlier one is accepted for a while, such as 24h. */
export async function rotate(id: string, grace: string): Promise<KeyView> {
  return (await send('POST', `/keys/${encodeURIComponent(id)}/rotate`, { grace })).json();
}

export async function revoke(id: string): Promise<void> {
  await checked(await ask(`/keys/${encodeURIComponent(id)}`, { method: 'DELETE' }));
}

/** A new key as it is typed. */
export interface Draft {
  name: string;
  tenant: string;
  scopes: string[];
  models: string; // with commas between them
  expires: string; // 90d; 0 for never
  limits: Record<keyof Limits, string>;
}

export const limitNames: [keyof Limits, string, string][] = [
  ['requests_per_minute', 'Requests per minute', 'requests/min'],
  ['tokens_per_minute', 'Tokens per minute', 'tokens/min'],
  ['tokens_per_day', 'Tokens per day', 'tokens/day'],
  ['concurrent', 'Answers at once', 'at once'],
  ['bytes_in_flight', 'Bytes of requests in memory', 'bytes in flight'],
  ['bytes_stored', 'Bytes stored', 'bytes stored'],
];

export const emptyDraft: Draft = {
  name: '',
  tenant: '',
  scopes: ['inference', 'models'],
  models: '',
  expires: '90d',
  limits: { requests_per_minute: '', tokens_per_minute: '', tokens_per_day: '', concurrent: '', bytes_in_flight: '', bytes_stored: '' },
};

/** The body of the request for a new key: what is empty is the server's default. */
export function body(d: Draft): object {
  const models = d.models.split(',').map((m) => m.trim()).filter(Boolean);
  const limits = Object.entries(d.limits).filter(([, n]) => n.trim() !== '');
  return {
    name: d.name.trim(),
    scopes: d.scopes,
    expires: d.expires,
    ...(d.tenant.trim() ? { tenant: d.tenant.trim() } : {}),
    ...(models.length ? { models } : {}),
    ...Object.fromEntries(limits.map(([name, n]) => [name, Number(n)])),
  };
}

/** The limits of a key, in a line; '' for none. */
export function limitText(l: Limits): string {
  return limitNames.flatMap(([name, , unit]) => (l[name] ? [`${l[name].toLocaleString('en')} ${unit}`] : [])).join(', ');
}

/** The keys that have all of the words; of those that have ended, only if they are wanted. */
export function matching(keys: Key[], words: string, ended: boolean): Key[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return keys.filter((k) => {
    const text = [k.name, k.id, k.tenant, k.state, ...k.scopes, ...k.models].join(' ').toLowerCase();
    return (ended || k.state === 'active') && wanted.every((w) => text.includes(w));
  });
}

/** Those that have most running or waiting first, and then those that have used most. */
export function busiest<T extends { tokens_today: number; requests_running: number; requests_waiting: number }>(list: T[]): T[] {
  const now = (u: T) => u.requests_running + u.requests_waiting;
  return [...list].sort((a, b) => now(b) - now(a) || b.tokens_today - a.tokens_today);
}

/** A time for people, or what is said of none. */
export function when(time: string | undefined, none: string): string {
  return time ? new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' }) : none;
}

/** What there is to know about a key, in a line each. */
export function facts(k: Key, keys: Key[]): string[] {
  const maker = k.made_by && (keys.find((o) => o.id === k.made_by)?.name ?? k.made_by);
  return [
    [`tenant ${k.tenant}`, k.scopes.join(', '), k.models.length ? k.models.join(', ') : 'all models', limitText(k.limits) || 'no limits'].join(' · '),
    [
      `${k.tokens_today.toLocaleString('en')} tokens today`,
      `last used ${when(k.last_used, 'never')}`,
      k.revoked ? `revoked ${when(k.revoked, '')}` : `expires ${when(k.expires, 'never')}`,
      maker ? `made by ${maker}` : '',
    ]
      .filter(Boolean)
      .join(' · '),
  ];
}
