import { useSignal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';

import { attach } from './attached';
import { Composer } from './composer';
import { download, ExportPanel, ImportButton } from './export';
import { MessageView } from './message';
import { may, rights } from './rights';
import { answering, conversations, current, forget, live, model, models, set, show, shown, startNew, stop, trouble } from './session';
import { fileName, search, toJSON } from './search';
import { Settings } from './settings';
import type { Conversation } from './tree';

/** The chat page: the list of conversations, the current one, and its settings. */
export function Chat() {
  const listOpen = useSignal(false);
  const open = useSignal(''); // settings, export or neither
  const dragged = useSignal(false);
  const toggle = (panel: string) => (open.value = open.value === panel ? '' : panel);
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      if (e.key === 'Escape' && answering.value) stop();
      if (e.altKey && e.key.toLowerCase() === 'n') {
        e.preventDefault();
        startNew();
      }
    };
    document.addEventListener('keydown', onKey);
    return () => document.removeEventListener('keydown', onKey);
  }, []);
  return (
    <div class={`chat${listOpen.value ? ' list-open' : ''}`}>
      <nav aria-label="Conversations" id="conversations">
        <button type="button" class="new" title="Alt+N" onClick={() => (startNew(), (listOpen.value = false))}>
          New conversation
        </button>
        <List close={() => (listOpen.value = false)} />
      </nav>
      <main
        class={dragged.value ? 'dragged' : ''}
        onDragOver={(e) => {
          e.preventDefault();
          dragged.value = true;
        }}
        onDragLeave={(e) => {
          if (!e.currentTarget.contains(e.relatedTarget as Node | null)) dragged.value = false;
        }}
        onDrop={(e) => {
          e.preventDefault();
          dragged.value = false;
          if (e.dataTransfer) void attach(e.dataTransfer.files);
        }}
      >
        <div class="bar">
          <button type="button" class="quiet menu" aria-label="Conversations" aria-expanded={listOpen.value} aria-controls="conversations" onClick={() => (listOpen.value = !listOpen.value)}>
            ☰
          </button>
          <Picker />
          {shown.value.length > 0 && (
            <button type="button" class="quiet" aria-expanded={open.value === 'export'} aria-controls="export" onClick={() => toggle('export')}>
              Export
            </button>
          )}
          <button type="button" class="quiet" aria-expanded={open.value === 'settings'} aria-controls="settings" onClick={() => toggle('settings')}>
            Settings
          </button>
        </div>
        {trouble.value && (
          <p class="error" role="alert">
            {trouble.value}
          </p>
        )}
        {open.value === 'settings' && <Settings />}
        {open.value === 'export' && shown.value.length > 0 && <ExportPanel close={() => (open.value = '')} />}
        <Messages />
        <Composer />
      </main>
    </div>
  );
}

/** The conversations, or those that a search has found, and what is done with all of them. */
function List({ close }: { close: () => void }) {
  const query = useSignal('');
  const all = conversations.value;
  const found = query.value.trim() ? search(all, query.value) : all.map((conversation) => ({ conversation, excerpt: '' }));
  const today = new Date().toISOString().slice(0, 10);
  return (
    <>
      {all.length > 0 && <input type="search" aria-label="Search conversations" placeholder="Search" value={query.value} onInput={(e) => (query.value = e.currentTarget.value)} />}
      <p class={query.value.trim() ? 'note' : 'hidden'} role="status">
        {query.value.trim() && (found.length ? `${found.length} found` : 'Nothing found')}
      </p>
      <ul>
        {found.map(({ conversation: c, excerpt }) => (
          <Entry key={c.id} c={c} excerpt={excerpt} onOpen={() => (show(c), close())} />
        ))}
      </ul>
      <div class="foot">
        {all.length > 0 && (
          <button type="button" class="quiet" onClick={() => download(fileName(`conversations ${today}`, 'json'), toJSON(all))}>
            Export all
          </button>
        )}
        <ImportButton />
      </div>
    </>
  );
}

function Entry({ c, excerpt, onOpen }: { c: Conversation; excerpt: string; onOpen: () => void }) {
  const shownNow = current.value.id === c.id;
  return (
    <li>
      <button type="button" class="quiet title" aria-current={shownNow ? 'true' : undefined} onClick={onOpen}>
        {c.title}
        {live.value?.conversation === c.id && ' …'}
        {excerpt && <span class="excerpt">{excerpt}</span>}
      </button>
      <button type="button" class="quiet" aria-label={`Delete: ${c.title}`} onClick={() => confirm(`Delete “${c.title}”?`) && void forget(c)}>
        ×
      </button>
    </li>
  );
}

function Picker() {
  const able = models.value.filter((m) => m.generates !== false);
  return (
    <label class="picker">
      <span class="hidden">Model</span>
      <select value={model.value?.id ?? ''} disabled={able.length === 0} onChange={(e) => set({ model: e.currentTarget.value })}>
        {able.map((m) => (
          <option key={m.id} value={m.id}>
            {m.id}
            {m.state === 'ready' ? '' : ` (${m.state})`}
          </option>
        ))}
      </select>
    </label>
  );
}

/** The messages. While an answer streams, the end stays in view unless the user has scrolled up. */
function Messages() {
  const list = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  useLayoutEffect(() => {
    follow.current = true;
  }, [current.value.id, live.value]);
  useLayoutEffect(() => {
    if (follow.current) list.current!.scrollTop = list.current!.scrollHeight;
  });
  const onClick = async (e: MouseEvent) => {
    const button = (e.target as Element).closest('button.copy');
    if (!button) return;
    await navigator.clipboard.writeText(button.nextElementSibling?.textContent ?? '');
    button.textContent = 'Copied';
    setTimeout(() => (button.textContent = 'Copy'), 1500);
  };
  return (
    <div
      class="messages"
      role="log"
      aria-label="Messages"
      tabIndex={0}
      ref={list}
      onClick={(e) => void onClick(e)}
      onScroll={(e) => {
        const l = e.currentTarget;
        follow.current = l.scrollHeight - l.scrollTop - l.clientHeight < 40;
      }}
    >
      {shown.value.length === 0 ? <Welcome /> : <h1 class="hidden">{current.value.title}</h1>}
      {shown.value.map((m, i) => (
        <MessageView key={m.id} m={m} last={i === shown.value.length - 1} />
      ))}
    </div>
  );
}

function Welcome() {
  return (
    <div class="welcome">
      {rights.value && !may('use') && <p class="notice">This key may not ask models: that takes one with the scope inference.</p>}
      <h1>{model.value ? `Chat with ${model.value.id}` : 'No chat model is being served'}</h1>
      <p>The model runs on the machine that serves this web UI. What you write is sent there and nowhere else; conversations are stored in this browser.</p>
    </div>
  );
}
