import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';

import { use, wanted } from './key';
import { limitText, meaning, when } from './keys';
import { learn, rights } from './rights';

/** What the key of this page may do, and has used. */
export function KeyPage() {
  const trouble = useSignal('');
  useEffect(() => void learn(true).catch((e) => (trouble.value = (e as Error).message)), []); // what it has used changes
  const k = rights.value?.key;
  const forget = () => {
    use('');
    wanted.value = true;
  };
  return (
    <main class="page" tabIndex={0}>
      <h1>Your key</h1>
      {trouble.value && (
        <p class="error" role="alert">
          {trouble.value}
        </p>
      )}
      {rights.value && !k && <p class="notice">This server wants no key.</p>}
      {k && (
        <>
          <dl class="facts">
            <Fact name="Name" value={k.name} />
            <Fact name="Id" value={k.id} />
            <Fact name="Tenant" value={k.tenant} />
            <Fact name="Models" value={k.models.join(', ') || 'all'} />
            <Fact name="Limits" value={limitText(k.limits) || 'none'} />
            <Fact name="Tokens today" value={k.tokens_today.toLocaleString('en')} />
            <Fact name="Expires" value={when(k.expires, 'never')} />
          </dl>
          <h2>It may</h2>
          <ul>
            {k.scopes.map((s) => (
              <li key={s}>
                <strong>{s}</strong>: {meaning[s]}
              </li>
            ))}
          </ul>
          <p class="note">The key is kept until you close this tab.</p>
          <button type="button" class="plain" onClick={forget}>
            Forget the key now
          </button>
        </>
      )}
    </main>
  );
}

export function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
