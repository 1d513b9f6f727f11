import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';

import { bytes } from './files';
import { duration, fits, inventory, isHere, kinds, offered, repository, speed, totals, type Here } from './inventory';
import { isUsed } from './key';
import { busy, cancel, catalog, dismiss, fetches, fetchModel, load, look, problem, remove, tags, unload, type Fetch } from './library';
import type { Catalog, CatalogModel } from './manage';
import { models, set, trouble } from './session';

/** The models on the server's machine, and those that it can get. */
export function ModelsPage() {
  useEffect(() => void look(), []);
  const c = catalog.value;
  const said = problem.value || trouble.value;
  return (
    <main class="page" tabIndex={0}>
      <h1>Models</h1>
      {c && <Limits c={c} />}
      {said && (
        <p class="error" role="alert">
          {said}
        </p>
      )}
      <Downloads />
      <OnMachine may={c?.manage === true} />
      {c?.manage && !c.offline && <Offered c={c} />}
    </main>
  );
}

/** What the machine has room for, and what this page may not do here. */
function Limits({ c }: { c: Catalog }) {
  return (
    <>
      {c.memory_bytes > 0 && <p class="note">The server’s machine has {bytes(c.memory_bytes)} of memory.</p>}
      {!c.manage && isUsed() && <p class="notice">This key may not manage models: that takes one with the scope admin.</p>}
      {!c.manage && !isUsed() && <p class="notice">Models are managed only on the server’s own machine: open the web UI there, as {location.protocol}//localhost{location.port && `:${location.port}`}.</p>}
      {c.manage && c.offline && <p class="notice">The server runs with --offline: it downloads no models.</p>}
    </>
  );
}

function Downloads() {
  if (fetches.value.length === 0) return null;
  return (
    <section aria-label="Downloads">
      <h2>Downloads</h2>
      <ul class="rows">
        {fetches.value.map((f) => (
          <Download key={f.name} f={f} />
        ))}
      </ul>
    </section>
  );
}

function Download({ f }: { f: Fetch }) {
  const expected = catalog.value?.models.find((m) => m.name === f.name)?.bytes ?? 0;
  const { done, total } = totals(f.progress, expected);
  const rate = speed(f.progress);
  const left = rate > 0 ? ` · ${bytes(rate)}/s · ${duration((total - done) / rate)} left` : '';
  const amount = total > 0 ? `${bytes(done)} of ${bytes(total)}` : '';
  const paused = amount ? `Paused at ${amount}` : 'Paused: what has come is kept';
  return (
    <li>
      <div class="what">
        <strong>{f.name}</strong>
        {total > 0 && <progress aria-label={`Download of ${f.name}`} max={total} value={done} />}
        <p class="note">{f.abort ? f.progress.doing || amount + left : paused}</p>
        {f.error && (
          <p class="error" role="alert">
            {f.error}
          </p>
        )}
      </div>
      <div class="acts">
        {f.abort ? (
          <button type="button" class="plain" aria-label={`Cancel: ${f.name}`} onClick={() => cancel(f)}>
            Cancel
          </button>
        ) : (
          <>
            <button type="button" aria-label={`Resume: ${f.name}`} onClick={() => void fetchModel(f.name)}>
              Resume
            </button>
            <button type="button" class="quiet" aria-label={`Dismiss: ${f.name}`} onClick={() => dismiss(f)}>
              Dismiss
            </button>
          </>
        )}
      </div>
    </li>
  );
}

function OnMachine({ may }: { may: boolean }) {
  const list = inventory(models.value, tags.value ?? []);
  return (
    <section aria-label="On this machine" aria-busy={tags.value === null}>
      <h2>{may ? 'On this machine' : 'Served'}</h2>
      <ul class="rows">
        {list.map((h) => (
          <Model key={h.name} h={h} may={may} />
        ))}
      </ul>
      {tags.value === null && <p class="note">Reading the models’ files …</p>}
    </section>
  );
}

/** What is known of a model, in a line. */
function facts({ tag, status }: Here): string {
  const d = tag?.details;
  const known = (text?: string) => (text && text !== 'unknown' && text !== '0' ? text : '');
  const context = status?.context || d?.context_length || 0;
  return [
    tag?.size ? `${bytes(tag.size)} on disk` : '',
    status?.resident_bytes ? `${bytes(status.resident_bytes)} in memory` : '',
    d && known(d.parameter_size) && `${d.parameter_size} parameters`,
    known(d?.quantization_level),
    context ? `${context.toLocaleString('en')} tokens` : '',
    ...(tag?.capabilities ?? []).filter((c) => c !== 'completion'),
  ]
    .filter(Boolean)
    .join(' · ');
}

function Model({ h, may }: { h: Here; may: boolean }) {
  const doing = busy.value[h.name];
  const asleep = h.status?.state === 'sleeping';
  const loaded = h.status !== undefined && h.status.state !== 'not loaded' && !asleep;
  const away = asleep ? 'sleeping' : 'on disk';
  const state = doing ? `${doing} …` : loaded ? (h.status!.state === 'ready' ? 'in memory' : h.status!.state) : away;
  return (
    <li aria-label={h.name}>
      <div class="what">
        <strong>{h.name}</strong> <span class={`state badge ${loaded && !doing ? 'good' : ''}`}>{state}</span>
        <p class="note">{facts(h)}</p>
      </div>
      <div class="acts">
        {h.status && h.status.generates !== false && <Chatting name={h.name} />}
        {may && <Acts h={h} loaded={loaded} doing={doing !== undefined} />}
      </div>
    </li>
  );
}

function Chatting({ name }: { name: string }) {
  const chat = () => {
    set({ model: name });
    location.hash = '';
  };
  return (
    <button type="button" class="quiet" aria-label={`Chat with ${name}`} onClick={chat}>
      Chat
    </button>
  );
}

function Acts({ h, loaded, doing }: { h: Here; loaded: boolean; doing: boolean }) {
  const erase = () => {
    if (confirm(`Delete the files of ${h.name} (${bytes(h.tag?.size ?? 0)}) from this machine?`)) void remove(h.name);
  };
  const kept = h.status?.at_start === true;
  return (
    <>
      {loaded ? (
        <button type="button" class="plain" disabled={doing} aria-label={`Unload: ${h.name}`} onClick={() => void unload(h.name)}>
          Unload
        </button>
      ) : (
        <button type="button" class="plain" disabled={doing} aria-label={`Load: ${h.name}`} onClick={() => void load(h.name)}>
          Load
        </button>
      )}
      {kept ? (
        <span class="note" title="It cannot be removed while the server runs.">
          named at start
        </span>
      ) : (
        <button type="button" class="quiet" disabled={doing} aria-label={`Remove: ${h.name}`} onClick={erase}>
          Remove
        </button>
      )}
    </>
  );
}

/** Number of models of the catalog that are shown at first. */
const shownFirst = 30;

/** The catalog. */
function Offered({ c }: { c: Catalog }) {
  const words = useSignal('');
  const kind = useSignal('');
  const fitting = useSignal(true);
  const all = useSignal(false);
  const list = offered(c, { words: words.value, kind: kind.value, fitting: fitting.value });
  const repo = repository(words.value);
  return (
    <section aria-label="Catalog">
      <h2>Catalog</h2>
      <div class="choices">
        <input type="search" aria-label="Search the catalog" placeholder="Name, use or license; or org/repo on the Hugging Face Hub" value={words.value} onInput={(e) => (words.value = e.currentTarget.value)} />
        <select aria-label="Kind" value={kind.value} onChange={(e) => (kind.value = e.currentTarget.value)}>
          <option value="">All kinds</option>
          {kinds(c).map((k) => (
            <option key={k} value={k}>
              {k}
            </option>
          ))}
        </select>
        <label class="check">
          <input type="checkbox" checked={fitting.value} onChange={(e) => (fitting.value = e.currentTarget.checked)} /> Only what fits
        </label>
      </div>
      <p class="note" role="status">
        {list.length} of {c.models.length} models
      </p>
      <ul class="rows">
        {repo && (
          <li>
            <div class="what">
              <strong>{repo}</strong>
              <p class="note">A repository on the Hugging Face Hub</p>
            </div>
            <Get name={repo} here={isHere(repo, tags.value ?? [])} />
          </li>
        )}
        {list.slice(0, all.value ? undefined : shownFirst).map((m) => (
          <Offer key={m.name} m={m} memory={c.memory_bytes} here={isHere(m.name, tags.value ?? [])} />
        ))}
      </ul>
      {!all.value && list.length > shownFirst && (
        <button type="button" class="plain" onClick={() => (all.value = true)}>
          Show all {list.length}
        </button>
      )}
    </section>
  );
}

function Offer({ m, memory, here }: { m: CatalogModel; memory: number; here: boolean }) {
  const fit = fits(m.memory_bytes, memory);
  const text = [bytes(m.bytes), m.quantization, m.context ? `${m.context.toLocaleString('en')} tokens` : '', m.license, m.kinds.join(', ')];
  return (
    <li aria-label={m.name}>
      <div class="what">
        <strong>{m.name}</strong>{' '}
        {fit !== null && <span class={`state badge ${fit ? 'good' : ''}`}>{fit ? `fits: needs ${bytes(m.memory_bytes)}` : `too large: needs ${bytes(m.memory_bytes)}`}</span>}
        <p>{m.use}</p>
        <p class="note">{text.filter(Boolean).join(' · ')}</p>
      </div>
      <Get name={m.name} here={here} />
    </li>
  );
}

/** The button that downloads a model that is not here. */
function Get({ name, here }: { name: string; here: boolean }) {
  const running = fetches.value.some((f) => f.name === name && f.abort);
  return (
    <div class="acts">
      {here ? (
        <span class="note">on this machine</span>
      ) : (
        <button type="button" class="plain" disabled={running} aria-label={`${running ? 'Downloading' : 'Download'}: ${name}`} onClick={() => void fetchModel(name)}>
          {running ? 'Downloading' : 'Download'}
        </button>
      )}
    </div>
  );
}
