import type { Token } from 'marked';
import { memo } from 'preact/compat';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';

import { bytes, sizeOf } from './files';
import { blocks, render } from './markdown';
import { answerCalls, answering, current, edit, live, regenerate, set } from './session';
import { branches, turn, type Message, type Stats } from './tree';

/** A block of markdown; an unchanged block is not rendered again. */
const Block = memo(
  ({ token }: { token: Token }) => {
    const here = useRef<HTMLDivElement>(null);
    useLayoutEffect(() => here.current!.replaceChildren(render(token)), [token.raw]);
    return <div ref={here} />;
  },
  (a, b) => a.token.raw === b.token.raw,
);

function Markdown({ text }: { text: string }) {
  return (
    <div class="markdown">
      {blocks(text).map((token, i) => (
        <Block key={i} token={token} />
      ))}
    </div>
  );
}

export function MessageView({ m, last }: { m: Message; last: boolean }) {
  const [editing, setEditing] = useState(false);
  const coming = live.value?.message === m.id;
  const busy = live.value !== null;
  if (m.role === 'tool') {
    return (
      <article class="message tool" aria-label="Result of a tool">
        <pre tabIndex={0}>{m.text}</pre>
      </article>
    );
  }
  if (editing) {
    return <Editor m={m} close={() => setEditing(false)} />;
  }
  return (
    <article class={`message ${m.role}`} aria-label={m.role === 'user' ? 'You' : (m.model ?? 'Answer')} aria-busy={coming}>
      {m.images?.map((url, i) => <img key={i} src={url} alt={`Image ${i + 1} of the message`} />)}
      {m.reasoning && (
        <details class="reasoning" open={coming && !m.text}>
          <summary>Reasoning</summary>
          <Markdown text={m.reasoning} />
        </details>
      )}
      {m.files?.map((f, i) => (
        <details key={i} class="file">
          <summary>
            {f.name} <span class="note">{bytes(sizeOf(f))}</span>
          </summary>
          <pre tabIndex={0}>{f.text}</pre>
        </details>
      ))}
      {m.role === 'user' ? m.text && <p class="said">{m.text}</p> : <Markdown text={m.text} />}
      {m.calls && <Calls m={m} open={last && !busy} />}
      {coming && !m.text && !m.reasoning && !m.calls && <span class="waiting" role="img" aria-label="Waiting for the answer" />}
      {m.error && (
        <p class="error" role="alert">
          {m.error}
        </p>
      )}
      <footer>
        <Branches m={m} busy={busy} />
        {m.role === 'user' && (
          <button type="button" class="quiet" disabled={busy} onClick={() => setEditing(true)}>
            Edit
          </button>
        )}
        {m.role === 'assistant' && !coming && (
          <>
            <button type="button" class="quiet" onClick={() => void navigator.clipboard.writeText(m.text)}>
              Copy
            </button>
            <button type="button" class="quiet" disabled={busy} onClick={() => void regenerate(m)}>
              {m.error ? 'Try again' : 'Regenerate'}
            </button>
          </>
        )}
        {m.finish === 'length' && <span class="note">cut off at the token limit</span>}
        {m.finish === 'stopped' && <span class="note">stopped</span>}
        {m.role === 'assistant' && (
          <span class="note">
            {m.model}
            {m.stats && <Speed s={m.stats} />}
          </span>
        )}
      </footer>
    </article>
  );
}

function Speed({ s }: { s: Stats }) {
  return (
    <span title={`${s.promptTokens} prompt tokens, ${s.answerTokens} answer tokens, the first after ${Math.round(s.firstTokenMs)} ms`}>
      {s.tokensPerSecond > 0 ? ` · ${s.tokensPerSecond.toFixed(s.tokensPerSecond < 10 ? 1 : 0)} tokens/s` : ` · ${s.answerTokens} tokens`}
    </span>
  );
}

/** Selects the branch of a message, if there are several. */
function Branches({ m, busy }: { m: Message; busy: boolean }) {
  const all = branches(current.value, m.parent);
  if (all.length < 2) return null;
  const at = all.findIndex((b) => b.id === m.id);
  const go = (step: number) => set(turn(current.value, m, step));
  return (
    <span class="branches">
      <button type="button" class="quiet" aria-label="Earlier version" disabled={busy || at === 0} onClick={() => go(-1)}>
        ‹
      </button>
      <span>
        {at + 1}/{all.length}
      </span>
      <button type="button" class="quiet" aria-label="Later version" disabled={busy || at === all.length - 1} onClick={() => go(1)}>
        ›
      </button>
    </span>
  );
}

function Editor({ m, close }: { m: Message; close: () => void }) {
  const [text, setText] = useState(m.text);
  const save = () => {
    if (answering.value || (!text.trim() && !m.images?.length && !m.files?.length)) return;
    close();
    void edit(m, text);
  };
  return (
    <form
      class="message user editor"
      onSubmit={(e) => {
        e.preventDefault();
        save();
      }}
    >
      <textarea
        aria-label="Edit the message"
        value={text}
        rows={Math.min(12, text.split('\n').length + 1)}
        ref={(t) => t?.focus()}
        onInput={(e) => setText(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === 'Escape') close();
          if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) {
            e.preventDefault();
            save();
          }
        }}
      />
      <footer>
        <button type="submit">Send</button>
        <button type="button" class="quiet" onClick={close}>
          Cancel
        </button>
      </footer>
    </form>
  );
}

/** The tools that a model called; the user enters their results. */
function Calls({ m, open }: { m: Message; open: boolean }) {
  const [results, setResults] = useState<string[]>([]);
  const calls = m.calls!;
  const answered = branches(current.value, m.id).length > 0;
  return (
    <form
      class="calls"
      onSubmit={(e) => {
        e.preventDefault();
        void answerCalls(m, calls.map((_, i) => results[i] ?? ''));
      }}
    >
      {calls.map((call, i) => (
        <div key={call.id} class="call">
          <strong>{call.name}</strong>
          <pre tabIndex={0}>{pretty(call.arguments)}</pre>
          {open && !answered && (
            <label>
              Result
              <textarea rows={2} value={results[i] ?? ''} onInput={(e) => setResults(Object.assign([...results], { [i]: e.currentTarget.value }))} />
            </label>
          )}
        </div>
      ))}
      {open && !answered && <button type="submit">Send results</button>}
    </form>
  );
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // it is still incomplete
  }
}
