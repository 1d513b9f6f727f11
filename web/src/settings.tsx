import { current, set, setKeeping } from './session';
import { keeping } from './store';

interface Field {
  name: string;
  label: string;
  min?: number;
  max?: number;
  step?: number | 'any';
}

/** Fields of a request that users change. The server chooses those that are empty. */
const numbers: Field[] = [
  { name: 'temperature', label: 'Temperature', min: 0, max: 2, step: 'any' },
  { name: 'top_p', label: 'Top p', min: 0, max: 1, step: 'any' },
  { name: 'min_p', label: 'Min p', min: 0, max: 1, step: 'any' },
  { name: 'top_k', label: 'Top k', min: 0, step: 1 },
  { name: 'repeat_penalty', label: 'Repeat penalty', min: 0, step: 'any' },
  { name: 'frequency_penalty', label: 'Frequency penalty', min: -2, max: 2, step: 'any' },
  { name: 'presence_penalty', label: 'Presence penalty', min: -2, max: 2, step: 'any' },
  { name: 'seed', label: 'Seed', step: 1 },
  { name: 'max_completion_tokens', label: 'Max tokens', min: 1, step: 1 },
];

/** The system prompt, the sampling and the tools of the conversation. */
export function Settings() {
  const c = current.value;
  const param = (name: string, value: string) => set({ params: { ...c.params, [name]: value } });
  return (
    <section class="settings" id="settings" aria-label="Settings of this conversation">
      <label>
        System prompt
        <textarea rows={4} value={c.system} onInput={(e) => set({ system: e.currentTarget.value })} />
      </label>
      <fieldset>
        <legend>Sampling</legend>
        {numbers.map((f) => (
          <label key={f.name}>
            {f.label}
            <input type="number" min={f.min} max={f.max} step={f.step} placeholder="default" value={c.params[f.name] ?? ''} onInput={(e) => param(f.name, e.currentTarget.value)} />
          </label>
        ))}
      </fieldset>
      <label>
        Stop sequences, one per line
        <textarea rows={2} value={c.params.stop ?? ''} onInput={(e) => param('stop', e.currentTarget.value)} />
      </label>
      <label>
        Tools (JSON, OpenAI format)
        <textarea rows={4} spellcheck={false} class="mono" value={c.tools} aria-invalid={toolsError(c.tools) !== ''} onInput={(e) => set({ tools: e.currentTarget.value })} />
      </label>
      {toolsError(c.tools) && (
        <p class="error" role="alert">
          {toolsError(c.tools)}
        </p>
      )}
      <label class="check">
        <input type="checkbox" checked={!keeping.value} onChange={(e) => setKeeping(!e.currentTarget.checked)} />
        Keep nothing in this browser (all conversations)
      </label>
    </section>
  );
}

/** The error in the tools as typed; '' for none. */
function toolsError(text: string): string {
  if (!text.trim()) return '';
  try {
    return Array.isArray(JSON.parse(text)) ? '' : 'Tools must be a list: [{"type": "function", "function": {…}}]';
  } catch (e) {
    return (e as Error).message;
  }
}
