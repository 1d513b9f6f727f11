// Parses the parts of Prometheus's text format that the status page uses: names, labels, numbers.

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const line = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const label = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export function parseMetrics(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const row of text.split('\n')) {
    const m = row.startsWith('#') ? null : line.exec(row);
    if (!m) continue;
    const labels: Record<string, string> = {};
    for (const [, name, value] of (m[2] ?? '').matchAll(label)) labels[name] = value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
    const value = m[3] === '+Inf' ? Infinity : m[3] === '-Inf' ? -Infinity : Number(m[3]);
    if (!Number.isNaN(value)) samples.push({ name: m[1], labels, value });
  }
  return samples;
}

/** The sum of the samples of a metric that have these labels. */
export function sum(samples: Sample[], name: string, labels: Record<string, string>): number {
  let total = 0;
  for (const s of samples) if (s.name === name && Object.entries(labels).every(([k, v]) => s.labels[k] === v)) total += s.value;
  return total;
}

/** One point in time of a model's graphs. */
export interface Moment {
  at: number; // seconds since 1970
  running: number;
  waiting: number;
  answerTokens: number; // since the server started
  promptTokens: number;
  kvRunning: number;
  kvKept: number;
  memory: number; // bytes
}

export function moment(samples: Sample[], model: string, at: number): Moment {
  const of = (name: string, labels: Record<string, string> = {}) => sum(samples, name, { model, ...labels });
  return {
    at,
    running: of('serve_choices_running'),
    waiting: of('serve_choices_waiting'),
    answerTokens: of('serve_answer_tokens_total'),
    promptTokens: of('serve_prompt_tokens_total', { source: 'computed' }),
    kvRunning: of('serve_kv_cells', { state: 'running' }),
    kvKept: of('serve_kv_cells', { state: 'kept' }),
    memory: of('serve_model_resident_bytes') || of('serve_model_memory_bytes'),
  };
}

/** Tokens per second between two points; null if the counter was reset between them. */
export function rate(before: Moment, now: Moment, key: 'answerTokens' | 'promptTokens'): number | null {
  const seconds = now.at - before.at;
  return seconds > 0 && now[key] >= before[key] ? (now[key] - before[key]) / seconds : null;
}
