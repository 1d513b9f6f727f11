import { signal } from '@preact/signals';
import { render } from 'preact';

import { Chat } from './chat';
import { AdminPage } from './admin';
import { ConnectPage } from './connect';
import { isUsed, wanted } from './key';
import { KeyForm } from './keyform';
import { KeyPage } from './keypage';
import { guardLeaving, recall, unlook } from './library';
import { ModelsPage } from './models';
import './pages.css';
import { forgetRights, may, rights } from './rights';
import { begin, refresh } from './session';
import { StatusPage } from './status';

const place = signal(location.hash);
addEventListener('hashchange', () => (place.value = location.hash));

const always = () => true;
// The pages, and whether there is something on them for this page's key.
const pages = [
  { place: '#', name: 'Chat', show: Chat, offered: always },
  { place: '#models', name: 'Models', show: ModelsPage, offered: always },
  { place: '#connect', name: 'API', show: ConnectPage, offered: always },
  { place: '#status', name: 'Status', show: StatusPage, offered: () => may('status') },
  { place: '#admin', name: 'Admin', show: AdminPage, offered: () => (rights.value?.administers ?? '') !== '' },
  { place: '#key', name: 'Key', show: KeyPage, offered: () => isUsed() && rights.value?.required === true },
];

/** The key is another one: nothing counts any more that the earlier one was told. */
function entered(): void {
  forgetRights();
  unlook();
  void refresh();
}

function App() {
  const shown = pages.find((p) => p.place === place.value) ?? pages[0];
  return (
    <>
      <header>
        <a class="brand" href="#">
          serve
        </a>
        <nav aria-label="Pages">
          {pages.filter((p) => p === shown || p.offered()).map((p) => (
            <a key={p.place} href={p.place} aria-current={p === shown ? 'page' : undefined}>
              {p.name}
            </a>
          ))}
        </nav>
      </header>
      {wanted.value ? <KeyForm entered={entered} /> : <shown.show />}
    </>
  );
}

render(<App />, document.getElementById('app')!);
recall();
guardLeaving();
void begin();
// The state of models changes: loaded, unloaded, restarted.
setInterval(() => document.hidden || place.value === '#status' || void refresh(), 5000);
