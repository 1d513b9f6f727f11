import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';

import { refusal, use } from './key';

/** Asks for the API key, in place of the pages. */
export function KeyForm({ entered }: { entered: () => void }) {
  const typed = useSignal('');
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const submit = (e: Event) => {
    e.preventDefault();
    if (!typed.value.trim()) return;
    refusal.value = '';
    use(typed.value);
    entered();
  };
  return (
    <main class="page" tabIndex={0}>
      <h1>API key</h1>
      <p class="note">This server wants an API key, which whoever runs it can give you. It is kept until you close this tab.</p>
      {refusal.value && (
        <p class="error" role="alert">
          {refusal.value}
        </p>
      )}
      <form class="choices" onSubmit={submit}>
        <label class="field">
          Key
          <input ref={input} type="password" autocomplete="off" spellcheck={false} placeholder="sk-serve-…" value={typed.value} onInput={(e) => (typed.value = e.currentTarget.value)} />
        </label>
        <button type="submit">Use it</button>
      </form>
    </main>
  );
}
