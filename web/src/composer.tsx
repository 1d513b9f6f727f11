import { useSignal } from '@preact/signals';
import type { TargetedEvent } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

import { answering, current, live, model, send, stop, version } from './session';

/** Maximum size of an image, in bytes: the server accepts 32 MiB per request, and base64 adds a third. */
const largestImage = 8 << 20;

/** The input for messages. Enter sends, Shift+Enter begins a line, Escape stops an answer. */
export function Composer() {
  const text = useSignal('');
  const images = useSignal<string[]>([]);
  const refused = useSignal('');
  const field = useRef<HTMLTextAreaElement>(null);
  const blind = model.value?.sees_images === false;

  useEffect(() => field.current?.focus(), [current.value.id]);
  useEffect(() => {
    const f = field.current!;
    f.style.height = 'auto';
    f.style.height = `${f.scrollHeight}px`;
  }, [text.value]);

  const attach = async (files: Iterable<File>) => {
    refused.value = '';
    for (const file of files) {
      if (!file.type.startsWith('image/')) refused.value = `${file.name} is no image.`;
      else if (file.size > largestImage) refused.value = `${file.name} is larger than ${largestImage >> 20} MiB.`;
      else images.value = [...images.value, await dataURL(file)];
    }
  };
  const onPick = (e: TargetedEvent<HTMLInputElement>) => {
    const input = e.currentTarget;
    void attach([...(input.files ?? [])]);
    input.value = ''; // so that the same file can be picked again
  };
  const submit = () => {
    if (live.value || !model.value || (!text.value.trim() && images.value.length === 0)) return;
    void send(text.value, images.value);
    text.value = '';
    images.value = [];
    refused.value = '';
  };
  return (
    <form
      class="composer"
      aria-label="New message"
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
      onDragOver={(e) => e.preventDefault()}
      onDrop={(e) => {
        e.preventDefault();
        if (!blind && e.dataTransfer) void attach(e.dataTransfer.files);
      }}
    >
      {refused.value && (
        <p class="error" role="alert">
          {refused.value}
        </p>
      )}
      {images.value.length > 0 && (
        <ul class="attached">
          {images.value.map((url, i) => (
            <li key={i}>
              <img src={url} alt={`Attached image ${i + 1}`} />
              <button type="button" class="quiet" aria-label={`Remove image ${i + 1}`} onClick={() => (images.value = images.value.filter((_, k) => k !== i))}>
                ×
              </button>
            </li>
          ))}
        </ul>
      )}
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
            const files = [...(e.clipboardData?.files ?? [])];
            if (files.length && !blind) {
              e.preventDefault();
              void attach(files);
            }
          }}
        />
        {!blind && model.value && (
          <label class="attach" title="Attach images">
            <input type="file" accept="image/*" multiple aria-label="Attach images" onChange={onPick} />
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

function dataURL(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
