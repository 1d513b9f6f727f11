import { useSignal } from '@preact/signals';
import type { TargetedEvent } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

import { attach, detachAll, files, images, isBlind, refused } from './attached';
import { bytes, sizeOf } from './files';
import { answering, current, live, model, send, stop, version } from './session';

/** The input for messages. Enter sends, Shift+Enter begins a line, Escape stops an answer. */
export function Composer() {
  const text = useSignal('');
  const field = useRef<HTMLTextAreaElement>(null);

  useEffect(() => field.current?.focus(), [current.value.id]);
  useEffect(() => {
    const f = field.current!;
    f.style.height = 'auto';
    f.style.height = `${f.scrollHeight}px`;
  }, [text.value]);

  const onPick = (e: TargetedEvent<HTMLInputElement>) => {
    const input = e.currentTarget;
    void attach([...(input.files ?? [])]);
    input.value = ''; // so that the same file can be picked again
  };
  const submit = () => {
    if (live.value || !model.value || (!text.value.trim() && images.value.length === 0 && files.value.length === 0)) return;
    void send(text.value, images.value, files.value);
    text.value = '';
    detachAll();
  };
  return (
    <form
      class="composer"
      aria-label="New message"
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      <Attached />
      <div class="line">
        <textarea
          ref={field}
          rows={1}
          aria-label="Message"
          placeholder={model.value ? `Ask ${model.value.id}` : version.value && 'No chat model is being served'}
          value={text.value}
          onInput={(e) => (text.value = e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) {
              e.preventDefault();
              submit();
            }
          }}
          onPaste={(e) => {
            const pasted = e.clipboardData?.files;
            if (pasted?.length) {
              e.preventDefault();
              void attach(pasted);
            }
          }}
        />
        {model.value && (
          <label class="attach" title={isBlind() ? 'Attach text files' : 'Attach text files and images'}>
            <input type="file" multiple aria-label={isBlind() ? 'Attach text files' : 'Attach text files and images'} onChange={onPick} />
            <span aria-hidden="true">+</span>
          </label>
        )}
        {answering.value ? (
          <button type="button" onClick={stop}>
            Stop
          </button>
        ) : (
          <button type="submit" disabled={live.value !== null || !model.value}>
            Send
          </button>
        )}
      </div>
    </form>
  );
}

/** What is attached, each with a button that removes it, and what was refused. */
function Attached() {
  const without = <T,>(list: T[], i: number) => list.filter((_, k) => k !== i);
  return (
    <>
      {refused.value.length > 0 && (
        <p class="error" role="alert">
          {refused.value.join(' ')}
        </p>
      )}
      {(images.value.length > 0 || files.value.length > 0) && (
        <ul class="attached" aria-label="Attached">
          {images.value.map((url, i) => (
            <li key={url}>
              <img src={url} alt={`Attached image ${i + 1}`} />
              <button type="button" class="quiet" aria-label={`Remove image ${i + 1}`} onClick={() => (images.value = without(images.value, i))}>
                ×
              </button>
            </li>
          ))}
          {files.value.map((f, i) => (
            <li key={i} class="chip">
              <span class="name">{f.name}</span> <span class="note">{bytes(sizeOf(f))}</span>
              <button type="button" class="quiet" aria-label={`Remove ${f.name}`} onClick={() => (files.value = without(files.value, i))}>
                ×
              </button>
            </li>
          ))}
        </ul>
      )}
      <Room />
    </>
  );
}

/** Bytes of a token of English text or code, about. */
const bytesOfToken = 4;

/** Says so if the files are probably longer than the model's context. */
function Room() {
  const tokens = Math.round(sizeOf(...files.value) / bytesOfToken);
  const context = model.value?.context ?? 0;
  if (!context || tokens <= context) return null;
  return (
    <p class="note">
      The files have about {tokens.toLocaleString('en')} tokens; {model.value!.id} has room for {context.toLocaleString('en')}.
    </p>
  );
}
