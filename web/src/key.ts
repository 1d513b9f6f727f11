// The API key of a server that wants one. It is kept until the tab is closed, and sent in a header, never in a URL.

import { signal } from '@preact/signals';

const kept = 'serve-api-key';

/** The server wants a key: none is known, or it does not accept the one that was. */
export const wanted = signal(false);
/** Why the last key was not accepted; '' if there was none. */
export const refusal = signal('');

let key = recall();

function recall(): string {
  try {
    return sessionStorage.getItem(kept) ?? '';
  } catch {
    return ''; // this browser stores nothing: the key lasts as long as the page
  }
}

/** Uses a key from now on; '' for none. */
export function use(text: string): void {
  key = text.trim();
  wanted.value = false;
  try {
    if (key) sessionStorage.setItem(kept, key);
    else sessionStorage.removeItem(kept);
  } catch {
    // As above.
  }
}

/** Whether a key is in use. */
export const isUsed = () => key !== '';

/** Returns the headers of a request, with the key if there is one. */
export function withKey(headers?: HeadersInit): Headers {
  const all = new Headers(headers);
  if (key) all.set('Authorization', `Bearer ${key}`);
  return all;
}

/**
 * Notes that the server has refused a request with these headers for lack of a key. One that it does not accept is
 * forgotten, unless another one is in use by now.
 */
export function refused(sent: Headers): void {
  if (sent.get('Authorization') !== withKey().get('Authorization')) return;
  if (key) {
    use('');
    refusal.value = 'The server does not accept this key. It may have expired, or it was revoked.';
  }
  wanted.value = true;
}
