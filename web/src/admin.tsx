import { useSignal, type Signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';

import { AuditSection } from './auditlog';
import { Copied } from './copied';
import { use } from './key';
import * as keys from './keys';
import { rights, type KeyView } from './rights';
import { audit } from './session';
import { Table } from './table';

/** Keys, and who uses how much: for a key with the scope admin. */
export function AdminPage() {
  const known = useSignal<keys.KeyList | null>(null);
  const problem = useSignal('');
  const secret = useSignal<KeyView | null>(null);
  const look = async () => {
    try {
      known.value = await keys.list();
    } catch (e) {
      problem.value = (e as Error).message;
    }
  };
  const may = (rights.value?.administers ?? '') !== '';
  useEffect(() => {
    if (may) void look();
  }, [may]);

  /** Does something with keys, and looks at the result. It returns whether that was done. */
  const act = async (action: () => Promise<KeyView | void>): Promise<boolean> => {
    problem.value = '';
    let done = true;
    try {
      const made = await action();
      if (made?.secret) {
        if (made.id === rights.value?.key?.id) use(made.secret);
        secret.value = made;
      }
    } catch (e) {
      problem.value = (e as Error).message;
      done = false;
    }
    await look();
    return done;
  };
  if (rights.value && !may) return <Nothing />;
  return (
    <main class="page" tabIndex={0}>
      <h1>Administration</h1>
      {known.value && (
        <p class="note">
          {known.value.administers === 'server' ? 'You administer the keys of all tenants.' : `You administer the keys of the tenant ${rights.value?.key?.tenant}.`} Models are managed on the page <a href="#models">Models</a>.
        </p>
      )}
      {problem.value && (
        <p class="error" role="alert">
          {problem.value}
        </p>
      )}
      {secret.value && <Secret made={secret.value} done={() => (secret.value = null)} />}
      {may && <UsageSection />}
      {known.value && <Keys list={known.value} act={act} />}
      {audit.value && <AuditSection a={audit.value} />}
    </main>
  );
}

/** Why there is nothing to administer. */
function Nothing() {
  return (
    <main class="page" tabIndex={0}>
      <h1>Administration</h1>
      {rights.value?.required ? (
        <p class="notice">This key may not administer the server: that takes one with the scope admin.</p>
      ) : (
        <>
          <p class="notice">This server wants no API keys: everybody who reaches it may use it. The first key is made on its machine, and every client needs one from then on.</p>
          <Copied label="Command" text="serve key create root --scope inference,models,metrics,admin" />
        </>
      )}
    </main>
  );
}

/** The secret of a new key, until it is put away. */
function Secret({ made, done }: { made: KeyView; done: () => void }) {
  const place = useRef<HTMLElement>(null);
  useEffect(() => place.current?.focus(), [made]);
  return (
    <section class="secret" aria-label={`Secret of ${made.name}`} tabIndex={-1} ref={place}>
      <p>
        <strong>Copy the secret of {made.name} now.</strong> It is not stored, and not shown again.
      </p>
      <Copied label={`Secret: ${made.name}`} text={made.secret!} />
      <div class="acts">
        <button type="button" onClick={done}>
          I have it
        </button>
      </div>
    </section>
  );
}

/** How often the usage is asked for, in ms. */
const usageEvery = 2000;

/** What tenants and keys use, now and today. */
function UsageSection() {
  const usage = useSignal<keys.Usage | null>(null);
  const trouble = useSignal('');
  useEffect(() => {
    const stopped = new AbortController();
    const look = async () => {
      if (document.hidden) return;
      try {
        usage.value = await keys.usage(stopped.signal);
        trouble.value = '';
      } catch (e) {
        if (!stopped.signal.aborted) trouble.value = (e as Error).message;
      }
    };
    void look();
    const timer = setInterval(() => void look(), usageEvery);
    return () => {
      clearInterval(timer);
      stopped.abort();
    };
  }, []);
  const u = usage.value;
  return (
    <section aria-label="Usage">
      <h2>Usage</h2>
      {trouble.value && (
        <p class="error" role="alert">
          {trouble.value}
        </p>
      )}
      {u && (
        <>
          <Table caption={`Tenants, with the tokens of ${u.day} (UTC)`} heads={['Tenant', 'Keys', 'Tokens today', 'Running', 'Waiting']} rows={keys.busiest(u.tenants).map((t) => [t.tenant, t.keys, t.tokens_today, t.requests_running, t.requests_waiting])} />
          {u.keys.length > 0 ? (
            <Table caption="Keys in use today" heads={['Key', 'Tenant', 'Tokens today', 'Running', 'Waiting']} rows={keys.busiest(u.keys).map((k) => [k.name, k.tenant, k.tokens_today, k.requests_running, k.requests_waiting])} />
          ) : (
            <p class="note">No key has used anything today.</p>
          )}
        </>
      )}
    </section>
  );
}

type Act = (action: () => Promise<KeyView | void>) => Promise<boolean>;

/** Number of keys that are shown at first. */
const shownFirst = 50;

function Keys({ list, act }: { list: keys.KeyList; act: Act }) {
  const words = useSignal('');
  const ended = useSignal(false);
  const all = useSignal(false);
  const adding = useSignal(false);
  const found = keys.matching(list.keys, words.value, ended.value);
  return (
    <section aria-label="Keys">
      <h2>Keys</h2>
      {adding.value ? (
        <NewKey whole={list.administers === 'server'} act={act} close={() => (adding.value = false)} />
      ) : (
        <button type="button" onClick={() => (adding.value = true)}>
          New key
        </button>
      )}
      <div class="choices above">
        <input type="search" aria-label="Search the keys" placeholder="Name, tenant, scope or model" value={words.value} onInput={(e) => (words.value = e.currentTarget.value)} />
        <label class="check">
          <input type="checkbox" checked={ended.value} onChange={(e) => (ended.value = e.currentTarget.checked)} /> Also revoked and expired
        </label>
      </div>
      <p class="note" role="status">
        {found.length} of {list.keys.length} keys
      </p>
      <ul class="rows">
        {found.slice(0, all.value ? undefined : shownFirst).map((k) => (
          <KeyRow key={k.id} k={k} list={list.keys} act={act} />
        ))}
      </ul>
      {!all.value && found.length > shownFirst && (
        <button type="button" class="plain" onClick={() => (all.value = true)}>
          Show all {found.length}
        </button>
      )}
    </section>
  );
}

function KeyRow({ k, list, act }: { k: keys.Key; list: keys.Key[]; act: Act }) {
  const rotating = useSignal(false);
  const own = k.id === rights.value?.key?.id;
  const revoke = () => {
    const loss = own ? ' It is the key that this page uses.' : '';
    if (confirm(`Revoke the key ${k.name}?${loss} What runs for it ends, and its name stays taken. This cannot be undone.`)) void act(() => keys.revoke(k.id));
  };
  return (
    <li aria-label={k.name}>
      <div class="what">
        <strong>{k.name}</strong> <span class={`state badge ${k.state === 'active' ? 'good' : ''}`}>{k.state}</span> {own && <span class="note">the key of this page</span>}
        {keys.facts(k, list).map((line) => (
          <p class="note" key={line}>
            {line}
          </p>
        ))}
        {rotating.value && <Rotate k={k} own={own} act={act} close={() => (rotating.value = false)} />}
      </div>
      {k.manageable && (
        <div class="acts">
          {k.state === 'active' && (
            <button type="button" class="plain" aria-label={`Rotate: ${k.name}`} aria-expanded={rotating.value} onClick={() => (rotating.value = !rotating.value)}>
              Rotate
            </button>
          )}
          <button type="button" class="quiet" aria-label={`Revoke: ${k.name}`} onClick={revoke}>
            Revoke
          </button>
        </div>
      )}
    </li>
  );
}

const graces = [
  ['0', 'ends at once'],
  ['1h', 'works for an hour'],
  ['24h', 'works for a day'],
  ['7d', 'works for a week'],
];

/** Asks for how long the earlier secret goes on to work. */
function Rotate({ k, own, act, close }: { k: keys.Key; own: boolean; act: Act; close: () => void }) {
  const grace = useSignal('0');
  const select = useRef<HTMLSelectElement>(null);
  useEffect(() => select.current?.focus(), []);
  const submit = async (e: Event) => {
    e.preventDefault();
    if (await act(() => keys.rotate(k.id, grace.value))) close();
  };
  return (
    <form class="choices above" aria-label={`Rotate ${k.name}`} onSubmit={(e) => void submit(e)} onKeyDown={(e) => e.key === 'Escape' && close()}>
      <label class="field">
        The earlier secret
        <select ref={select} value={grace.value} onChange={(e) => (grace.value = e.currentTarget.value)}>
          {graces.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      </label>
      <button type="submit">Make a new secret</button>
      {own && <p class="note">This page goes on with the new one.</p>}
    </form>
  );
}

const periods = [
  ['7d', 'in 7 days'],
  ['30d', 'in 30 days'],
  ['90d', 'in 90 days'],
  ['365d', 'in a year'],
  ['0', 'never'],
];

/** The form for a new key. It offers what this page's key may give. */
function NewKey({ whole, act, close }: { whole: boolean; act: Act; close: () => void }) {
  const draft = useSignal<keys.Draft>({ ...keys.emptyDraft, scopes: keys.emptyDraft.scopes.filter(mayGive) });
  const name = useRef<HTMLInputElement>(null);
  useEffect(() => name.current?.focus(), []);
  const set = (part: Partial<keys.Draft>) => (draft.value = { ...draft.value, ...part });
  const submit = async (e: Event) => {
    e.preventDefault();
    if (await act(() => keys.create(keys.body(draft.value)))) close();
  };
  const d = draft.value;
  const own = rights.value?.key;
  return (
    <form class="settings" aria-label="New key" onSubmit={(e) => void submit(e)} onKeyDown={(e) => e.key === 'Escape' && close()}>
      <div class="grid">
        <label>
          Name
          <input ref={name} required autocomplete="off" spellcheck={false} maxLength={64} value={d.name} onInput={(e) => set({ name: e.currentTarget.value })} />
        </label>
        <label>
          Tenant
          <input autocomplete="off" spellcheck={false} maxLength={64} disabled={!whole} placeholder={whole ? 'its own' : own?.tenant} value={d.tenant} onInput={(e) => set({ tenant: e.currentTarget.value })} />
        </label>
        <label>
          Expires
          <select value={d.expires} onChange={(e) => set({ expires: e.currentTarget.value })}>
            {periods.map(([value, text]) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
          </select>
        </label>
        <label>
          Models, with commas between them
          <input autocomplete="off" spellcheck={false} placeholder={own?.models.length ? own.models.join(', ') : 'all'} value={d.models} onInput={(e) => set({ models: e.currentTarget.value })} />
        </label>
      </div>
      <Scopes draft={draft} />
      <fieldset>
        <legend>Limits</legend>
        {keys.limitNames.map(([field, label]) => (
          <label key={field}>
            {label}
            <input type="number" min={1} step={1} placeholder="none" value={d.limits[field]} onInput={(e) => set({ limits: { ...d.limits, [field]: e.currentTarget.value } })} />
          </label>
        ))}
      </fieldset>
      <div class="acts">
        <button type="submit" disabled={d.scopes.length === 0}>
          Create the key
        </button>
        <button type="button" class="quiet" onClick={close}>
          Cancel
        </button>
      </div>
    </form>
  );
}

/** Whether this page's key has a scope, which it needs to give it. */
const mayGive = (scope: string) => rights.value?.key?.scopes.includes(scope) === true;

function Scopes({ draft }: { draft: Signal<keys.Draft> }) {
  const d = draft.value;
  const choose = (scope: string, on: boolean) => (draft.value = { ...d, scopes: keys.scopes.filter((s) => (s === scope ? on : d.scopes.includes(s))) });
  return (
    <fieldset class="scopes">
      <legend>It may</legend>
      {keys.scopes.map((s) => (
        <label key={s} class="check">
          <input type="checkbox" disabled={!mayGive(s)} checked={d.scopes.includes(s)} onChange={(e) => choose(s, e.currentTarget.checked)} /> {s}: {keys.meaning[s]}
        </label>
      ))}
    </fieldset>
  );
}
