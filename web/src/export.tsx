import { useSignal } from '@preact/signals';
import type { TargetedEvent } from 'preact';

import { bytes } from './files';
import { fileName, fromJSON, largestImport, toJSON, toMarkdown } from './search';
import { adopt, current } from './session';

/** Saves a text as a file of the user's. */
export function download(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/octet-stream' }));
  const a = document.createElement('a');
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser reads it when it likes
}

/** Saves the conversation that is shown. */
export function ExportPanel({ close }: { close: () => void }) {
  const c = current.value;
  const save = (extension: string, text: string) => {
    download(fileName(c.title, extension), text);
    close();
  };
  return (
    <section class="settings" id="export" aria-label="Export this conversation">
      <div class="acts">
        <button type="button" class="plain" onClick={() => save('md', toMarkdown(c))}>
          Markdown
        </button>
        <button type="button" class="plain" onClick={() => save('json', toJSON([c]))}>
          JSON
        </button>
      </div>
      <p class="note">Markdown has what is shown. JSON has every version of each message, and can be imported again.</p>
    </section>
  );
}

/** Reads conversations from a file that was exported. */
export function ImportButton() {
  const said = useSignal('');
  const failed = useSignal(false);
  const onPick = async (e: TargetedEvent<HTMLInputElement>) => {
    const input = e.currentTarget;
    const file = input.files?.[0];
    if (!file) return;
    try {
      if (file.size > largestImport) throw new Error(`it is larger than ${bytes(largestImport)}`);
      const list = fromJSON(await file.text());
      await adopt(list);
      failed.value = false;
      said.value = `Imported: ${list.length}`;
    } catch (error) {
      failed.value = true;
      said.value = `${file.name}: ${(error as Error).message}.`;
    }
    input.value = '';
  };
  return (
    <>
      <label class="attach import">
        <input type="file" accept=".json,application/json" aria-label="Import conversations" onChange={(e) => void onPick(e)} />
        <span aria-hidden="true">Import</span>
      </label>
      {said.value && (
        <p class={failed.value ? 'error' : 'note'} role={failed.value ? 'alert' : 'status'}>
          {said.value}
        </p>
      )}
    </>
  );
}
