import { useSignal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';

import { Composer } from './composer';
import { MessageView } from './message';
import { answering, conversations, current, forget, live, model, models, set, show, shown, startNew, stop, trouble } from './session';
import { Settings } from './settings';
import type { Conversation } from './tree';

/** The chat page: the list of conversations, the current one, and its settings. */
export function Chat() {
  const listOpen = useSignal(false);
  const settingsOpen = useSignal(false);
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
      <nav aria-label="Conversations">
        <button type="button" class="new" title="Alt+N" onClick={() => (startNew(), (listOpen.value = false))}>
          New conversation
        </button>
        <ul>
          {conversations.value.map((c) => (
            <Entry key={c.id} c={c} onOpen={() => (show(c), (listOpen.value = false))} />
          ))}
        </ul>
      </nav>
      <main>
        <div class="bar">
          <button type="button" class="quiet menu" aria-expanded={listOpen.value} onClick={() => (listOpen.value = !listOpen.value)}>
            Conversations
          </button>
          <Picker />
          <button type="button" class="quiet" aria-expanded={settingsOpen.value} aria-controls="settings" onClick={() => (settingsOpen.value = !settingsOpen.value)}>
            Settings
          </button>
        </div>
        {trouble.value && (
          <p class="error" role="alert">
            {trouble.value}
          </p>
        )}
        {settingsOpen.value && <Settings />}
        <Messages />
        <Composer />
      </main>
    </div>
  );
}

function Entry({ c, onOpen }: { c: Conversation; onOpen: () => void }) {
  const shownNow = current.value.id === c.id;
  return (
    <li>
      <button type="button" class="quiet title" aria-current={shownNow ? 'true' : undefined} onClick={onOpen}>
        {c.title}
        {live.value?.conversation === c.id && ' …'}
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
      <h1>{model.value ? `Chat with ${model.value.id}` : 'No chat model is being served'}</h1>
      <p>The model runs on the machine that serves this page. What you write is sent there and nowhere else; conversations are stored in this browser.</p>
    </div>
  );
}
