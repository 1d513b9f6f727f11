import { signal } from '@preact/signals';
import { render } from 'preact';

import { Chat } from './chat';
import { begin, refresh } from './session';
import { StatusPage } from './status';

const place = signal(location.hash);
addEventListener('hashchange', () => (place.value = location.hash));

function App() {
  const status = place.value === '#status';
  return (
    <>
      <header>
        <a class="brand" href="#">
          serve
        </a>
        <nav aria-label="Pages">
          <a href="#" aria-current={status ? undefined : 'page'}>
            Chat
          </a>
          <a href="#status" aria-current={status ? 'page' : undefined}>
            Status
          </a>
        </nav>
      </header>
      {status ? <StatusPage /> : <Chat />}
    </>
  );
}

render(<App />, document.getElementById('app')!);
void begin();
// The state of models changes: loaded, unloaded, restarted.
setInterval(() => document.hidden || place.value === '#status' || void refresh(), 5000);
