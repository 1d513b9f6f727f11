// The audit log: what the server says of its last records, and what the page shows of them.

import { ask, checked } from './api';

/** What reading the file that the server writes has found. */
export interface AuditReview {
  log: string;
  file: string;
  first: number; // record of the file
  records: number; // of the log
  checkpoint: string;
  verified: string; // when
  holds: boolean;
  problems: { file: string; line?: number; record: number; problem: string }[];
}

export interface AuditRecord {
  seq: number;
  time: string;
  kind: string;
  name?: string; // of the key
  key?: string; // its id
  client?: string;
  address?: string;
  route?: string;
  models: string[];
  tokens_in: number;
  tokens_out: number;
  status?: number;
  error?: string;
  object?: string;
  count?: number;
}

export interface AuditLog {
  log: AuditReview | null;
  records: AuditRecord[];
}

export async function auditLog(signal?: AbortSignal): Promise<AuditLog> {
  return (await checked(await ask('/audit', { signal }))).json();
}

export const heads = ['Record', 'Time', 'Kind', 'Who', 'About', 'Tokens', 'Outcome'];

/** What a record is about: its models, or else its object or its endpoint. */
function about(r: AuditRecord): string {
  const what = r.models.length ? [...new Set(r.models)].join(', ') : (r.object ?? r.route ?? '');
  return r.count ? `${what} (${r.count.toLocaleString('en')})` : what;
}

/** A record as a row of a table. */
export function row(r: AuditRecord): (string | number)[] {
  const who = [r.name ?? r.key ?? r.client ?? '', r.address ?? ''].filter(Boolean).join(' · ');
  const outcome = [r.status ?? '', r.error ?? ''].filter(Boolean).join(' ');
  return [String(r.seq), new Date(r.time).toLocaleString(undefined, { dateStyle: 'short', timeStyle: 'medium' }), r.kind, who, about(r), r.tokens_in + r.tokens_out, outcome];
}

/** What is known of the file, in a sentence. */
export function verdict(r: AuditReview): string {
  const records = `records ${r.first.toLocaleString('en')} to ${(r.records - 1).toLocaleString('en')}`;
  if (!r.holds) return `The file ${r.file} is not what the log’s key has signed.`;
  return r.records > r.first ? `The file ${r.file}, ${records}, is what the log’s key has signed.` : `The file ${r.file} has no records so far.`;
}
