import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';

/** A text with a button that copies it. */
export function Copied({ label, text }: { label: string; text: string }) {
  const copied = useSignal('');
  const place = useRef<HTMLPreElement>(null);
  const done = copied.value === text;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection()?.selectAllChildren(place.current!); // no clipboard without TLS: it is selected, to be copied by keys
      return;
    }
    copied.value = text;
    setTimeout(() => (copied.value = ''), 1500);
  };
  return (
    <section class="sample" aria-label={label}>
      <div class="head">
        <h2>{label}</h2>
        <button type="button" class="quiet" aria-label={`${done ? 'Copied' : 'Copy'}: ${label}`} onClick={() => void copy()}>
          {done ? 'Copied' : 'Copy'}
        </button>
      </div>
      <pre tabIndex={0} ref={place}>
        {text}
      </pre>
    </section>
  );
}
