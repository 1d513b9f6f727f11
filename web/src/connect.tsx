import { useSignal } from '@preact/signals';

import { Copied } from './copied';
import { model as chosen, models, trouble } from './session';
import { baseURL, dialects, install, languages, snippet } from './snippets';

/** How programs reach the server: its address, and an example for each API and language. */
export function ConnectPage() {
  const dialect = useSignal<(typeof dialects)[number]>('OpenAI');
  const language = useSignal<(typeof languages)[number]>('curl');
  const picked = useSignal('');
  const model = models.value.find((m) => m.id === picked.value) ?? chosen.value ?? models.value[0];
  const base = baseURL(location.origin, dialect.value);
  const text = model ? snippet(location.origin, dialect.value, language.value, model.id, model.generates === false) : '';
  const needs = install(dialect.value, language.value);
  return (
    <main class="page" tabIndex={0}>
      <h1>Use it from programs</h1>
      <p class="note">The server speaks the APIs of OpenAI, Anthropic and Ollama. Programs made for one of them need only its address, an API key (any, if the server has none of its own), and a model’s name.</p>
      {trouble.value && (
        <p class="error" role="alert">
          {trouble.value}
        </p>
      )}
      <div class="choices">
        <Choice legend="API" name="dialect" values={dialects} value={dialect.value} choose={(v) => (dialect.value = v)} />
        <Choice legend="Language" name="language" values={languages} value={language.value} choose={(v) => (language.value = v)} />
        <label class="field">
          Model
          <select value={model?.id ?? ''} onChange={(e) => (picked.value = e.currentTarget.value)}>
            {models.value.map((m) => (
              <option key={m.id} value={m.id}>
                {m.id}
              </option>
            ))}
          </select>
        </label>
      </div>
      <Copied label="Base URL" text={base} />
      {needs && <Copied label="Install" text={needs} />}
      {text && <Copied label="Example" text={text} />}
      {model && !text && <p class="note">{model.id} makes embeddings, which Anthropic’s API does not have.</p>}
      <p class="note">
        Everything that is served is described as OpenAPI at <a href="/openapi.json">/openapi.json</a>.
      </p>
    </main>
  );
}

interface ChoiceProps<T extends string> {
  legend: string;
  name: string;
  values: readonly T[];
  value: T;
  choose: (value: T) => void;
}

/** One of a few values. */
function Choice<T extends string>({ legend, name, values, value, choose }: ChoiceProps<T>) {
  return (
    <fieldset class="segments">
      <legend>{legend}</legend>
      {values.map((v) => (
        <label key={v}>
          <input type="radio" name={name} checked={v === value} onChange={() => choose(v)} />
          <span>{v}</span>
        </label>
      ))}
    </fieldset>
  );
}
