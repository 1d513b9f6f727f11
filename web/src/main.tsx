import { signal } from '@preact/signals';
import { render } from 'preact';

import { Chat } from './chat';
import { ConnectPage } from './connect';
import { wanted } from './key';
import { KeyForm } from './keyform';
import { guardLeaving, recall } from './library';
import { ModelsPage } from './models';
import './pages.css';
import { begin, refresh } from './session';
import { StatusPage } from './status';

const place = signal(location.hash);
addEventListener('hashchange', () => (place.value = location.hash));

const pages = [
  { place: '#', name: 'Chat', show: Chat },
  { place: '#models', name: 'Models', show: ModelsPage },
  { place: '#connect', name: 'API', show: ConnectPage },
  { place: '#status', name: 'Status', show: StatusPage },
];

function App() {
  const shown = pages.find((p) => p.place === place.value) ?? pages[0];
  return (
    <>
      <header>
        <a class="brand" href="#">
          serve
        </a>
        <nav aria-label="Pages">
          {pages.map((p) => (
            <a key={p.place} href={p.place} aria-current={p === shown ? 'page' : undefined}>
              {p.name}
            </a>
          ))}
        </nav>
      </header>
      {wanted.value ? <KeyForm entered={() => void refresh()} /> : <shown.show />}
    </>
  );
}

render(<App />, document.getElementById('app')!);
recall();
guardLeaving();
void begin();
// The state of models changes: loaded, unloaded, restarted.
setInterval(() => document.hidden || place.value === '#status' || void refresh(), 5000);
