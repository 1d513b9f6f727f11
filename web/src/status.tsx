import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

import * as api from './api';
import { bytes } from './files';
import { Fact } from './keypage';
import { moment, parseMetrics, rate, type Moment } from './metrics';
import { learn, may, rights } from './rights';

/** Number of points in a graph, one per second: five minutes. */
const kept = 300;

/** The status page, from /metrics and /status. */
export function StatusPage() {
  const status = useSignal<api.Status | null>(null);
  const trouble = useSignal('');
  const history = useSignal<Record<string, Moment[]>>({});
  useEffect(() => {
    const stopped = new AbortController();
    const look = async () => {
      if (document.hidden || (rights.value && !may('status'))) return;
      try {
        await learn();
        if (!may('status')) return;
        const [now, text] = await Promise.all([api.status(stopped.signal), api.metrics(stopped.signal)]);
        const samples = parseMetrics(text);
        const at = Date.now() / 1000;
        history.value = Object.fromEntries(now.models.map((m) => [m.id, [...(history.value[m.id] ?? []), moment(samples, m.id, at)].slice(-kept)]));
        status.value = now;
        trouble.value = '';
      } catch (e) {
        if (!stopped.signal.aborted) trouble.value = (e as Error).message;
        if (api.isForbidden(e)) void learn(true).catch(() => {});
      }
    };
    void look();
    const timer = setInterval(() => void look(), 1000);
    return () => {
      clearInterval(timer);
      stopped.abort();
    };
  }, []);
  return (
    <main class="status" tabIndex={0}>
      <h1>Status</h1>
      {trouble.value && (
        <p class="error" role="alert">
          {trouble.value}
        </p>
      )}
      {rights.value && !may('status') && <p class="notice">This key may not see the status: that takes one with the scope metrics or admin.</p>}
      {status.value && (
        <p class="note">
          serve {status.value.version}, up since {new Date(status.value.started).toLocaleString()}
        </p>
      )}
      {status.value?.models.map((m) => <ModelSection key={m.id} m={m} moments={history.value[m.id] ?? []} />)}
    </main>
  );
}

/** The devices that a model runs on, and why no GPU is used. */
function deviceText(m: api.ModelStatus): string {
  const names = m.devices.map((d) => `${d.name} ${d.description}`).join(', ') || '–';
  return m.why_processor ? `${names} (${m.why_processor})` : names;
}

function ModelSection({ m, moments }: { m: api.ModelStatus; moments: Moment[] }) {
  const times = moments.map((p) => p.at);
  const speeds = (key: 'answerTokens' | 'promptTokens') => moments.map((p, i) => (i ? rate(moments[i - 1], p, key) : null));
  const written = speeds('answerTokens');
  const read = speeds('promptTokens');
  const now = moments.at(-1);
  return (
    <section aria-label={m.id}>
      <h2>
        {m.id} <span class={`state ${m.state === 'ready' ? 'good' : ''}`}>{m.state}</span>
      </h2>
      <dl>
        <Fact name="Process" value={m.process ? String(m.process) : '–'} />
        <Fact name="Device" value={deviceText(m)} />
        <Fact name="Context" value={m.context ? `${m.context} tokens` : '–'} />
        <Fact name="Parallel requests" value={m.slots ? String(m.slots) : '–'} />
        <Fact name="Restarts" value={String(m.restarts)} />
      </dl>
      <div class="graphs">
        <Graph title="Requests" now={`${now?.running ?? 0} running, ${now?.waiting ?? 0} waiting`} times={times} lines={{ running: moments.map((p) => p.running), waiting: moments.map((p) => p.waiting) }} />
        <Graph title="Tokens per second" now={`${Math.round(written.at(-1) ?? 0)} written, ${Math.round(read.at(-1) ?? 0)} read`} times={times} lines={{ written, read }} />
        <Graph title="KV cells" now={`${(now?.kvRunning ?? 0) + (now?.kvKept ?? 0)} of ${m.kv_cells}`} times={times} lines={{ running: moments.map((p) => p.kvRunning), kept: moments.map((p) => p.kvKept) }} />
        <Graph title="Memory" now={bytes(now?.memory ?? 0)} times={times} lines={{ MiB: moments.map((p) => p.memory / 2 ** 20) }} />
      </div>
    </section>
  );
}

const dark = matchMedia('(prefers-color-scheme: dark)');

/** A color of style.css, for a canvas. */
function color(at: HTMLElement, name: string): string {
  at.style.color = `var(${name})`;
  const value = getComputedStyle(at).color;
  at.style.color = '';
  return value;
}

/** A graph of lines over time. For screen readers, the last values are beside its title. */
function Graph({ title, now, times, lines }: { title: string; now: string; times: number[]; lines: Record<string, (number | null)[]> }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const remade = useSignal(0);
  const data = [times, ...Object.values(lines)] as uPlot.AlignedData;
  useEffect(() => {
    const at = place.current!; // it is observed a moment longer than it is there
    const ink = color(at, '--muted');
    const strokes = [color(at, '--accent'), color(at, '--second')];
    const axis = { stroke: ink, grid: { stroke: color(at, '--line'), width: 1 }, ticks: { show: false } };
    const u = new uPlot(
      {
        width: at.clientWidth,
        height: 150,
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (_u, _min, max) => [0, Math.max(1, max * 1.1)] } },
        axes: [axis, { ...axis, size: 52 }],
        series: [{}, ...Object.keys(lines).map((label, i) => ({ label, stroke: strokes[i], width: 2, points: { show: false } }))],
      },
      data,
      at,
    );
    plot.current = u;
    const watch = new ResizeObserver(() => u.setSize({ width: at.clientWidth, height: 150 }));
    watch.observe(at);
    const again = () => remade.value++; // the color scheme has changed
    dark.addEventListener('change', again);
    return () => {
      dark.removeEventListener('change', again);
      watch.disconnect();
      u.destroy();
    };
  }, [remade.value]);
  useEffect(() => plot.current?.setData(data), [times.at(-1)]);
  return (
    <figure>
      <figcaption>
        {title} <span class="note">{now}</span>
      </figcaption>
      <div ref={place} aria-hidden="true" />
    </figure>
  );
}
