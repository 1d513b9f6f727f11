// What the page of models shows, computed from the server's lists.

import type { ModelStatus } from './api';
import type { Catalog, CatalogModel, PullLine, Tag } from './manage';

/** A model on the server's machine. */
export interface Here {
  name: string;
  tag?: Tag; // missing until the files have been read
  status?: ModelStatus; // missing if it is not served so far
}

/** A name without the tag that Ollama's lists add. */
export function bare(name: string): string {
  return name.replace(/:latest$/, '');
}

/** Whether a model is among stored ones; one of a repository is it in any quantization, unless it names one. */
export function isHere(name: string, tags: Tag[]): boolean {
  const whole = name.toLowerCase();
  const names = tags.map((t) => bare(t.name).toLowerCase());
  return names.some((n) => n === whole || (whole.includes('/') && n.startsWith(`${whole}:`)));
}

/** The models on the machine: those that are served first, each under one name. */
export function inventory(served: ModelStatus[], tags: Tag[]): Here[] {
  const byName = new Map(tags.map((t) => [bare(t.name), t]));
  const names = new Set(served.flatMap((m) => [m.id, ...m.aliases]));
  const stored = [...byName].filter(([name]) => !names.has(name));
  return [...served.map((status) => ({ name: status.id, status, tag: byName.get(bare(status.id)) })), ...stored.map(([name, tag]) => ({ name, tag }))];
}

/** Whether a model that needs so much memory can run; null if that is unknown. */
export function fits(needs: number, memory: number): boolean | null {
  return needs > 0 && memory > 0 ? needs <= memory : null;
}

export interface Filter {
  words: string;
  kind: string; // '' for all
  fitting: boolean; // only those that fit
}

/** The models of the catalog that a filter lets through. */
export function offered(c: Catalog, f: Filter): CatalogModel[] {
  const words = f.words.toLowerCase().split(/\s+/).filter(Boolean);
  return c.models.filter((m) => {
    const text = [m.name, m.use, m.license, ...m.aliases, ...m.kinds].join(' ').toLowerCase();
    if (f.kind && !m.kinds.includes(f.kind)) return false;
    if (f.fitting && fits(m.memory_bytes, c.memory_bytes) === false) return false;
    return words.every((w) => text.includes(w));
  });
}

/** The kinds of models in the catalog. */
export function kinds(c: Catalog): string[] {
  return [...new Set(c.models.flatMap((m) => m.kinds))].sort();
}

/** A name that is no short one, such as org/repo:Q4_K_M; '' if the text is none. */
export function repository(text: string): string {
  const name = text.trim().replace(/^https:\/\/(huggingface\.co|hf\.co)\//, '');
  return /^[\w.-]+\/[\w.-]+([/:@][\w./@-]+)?$/.test(name) ? name : '';
}

/** A download, from the lines that the server has sent. */
export interface Progress {
  files: Record<string, { done: number; total: number }>; // by hash
  doing: string;
  begun: number; // ms: when the first line about a file came
  had: number; // bytes that were here then
  at: number; // ms: of the last line
}

export const noProgress: Progress = { files: {}, doing: 'Connecting', begun: 0, had: 0, at: 0 };

export function advance(p: Progress, line: PullLine, now: number): Progress {
  if (!line.digest || line.total === undefined) return { ...p, doing: line.status ?? p.doing };
  const done = line.completed ?? 0;
  const first = !p.files[line.digest];
  return {
    files: { ...p.files, [line.digest]: { done, total: line.total } },
    doing: '',
    begun: p.begun || now,
    had: first ? p.had + done : p.had,
    at: now,
  };
}

/** Bytes that have come, and bytes that will have; at least as many as the catalog says. */
export function totals(p: Progress, expected: number): { done: number; total: number } {
  const files = Object.values(p.files);
  const done = files.reduce((sum, f) => sum + f.done, 0);
  return { done, total: Math.max(expected, files.reduce((sum, f) => sum + f.total, 0)) };
}

/** Bytes per second; 0 while too little has come to tell. */
export function speed(p: Progress): number {
  const seconds = (p.at - p.begun) / 1000;
  return seconds >= 1 ? (totals(p, 0).done - p.had) / seconds : 0;
}

/** A duration for people. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}
