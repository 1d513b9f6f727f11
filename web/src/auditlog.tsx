import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';

import type { AuditStatus } from './api';
import { auditLog, heads, row, verdict, type AuditLog } from './audit';
import { when } from './keys';
import { Table } from './table';

/** Whether the audit log is written, what was written last, and whether that is as it was signed. */
export function AuditSection({ a }: { a: AuditStatus }) {
  const lost = a.lost ? ` ${a.lost.toLocaleString('en')} could not be written since the start.` : '';
  return (
    <section aria-label="Audit log">
      <h2>
        Audit log <span class={`state badge ${a.failing ? '' : 'good'}`}>{a.failing ? 'failing' : 'written'}</span>
      </h2>
      {a.failing && (
        <p class="error" role="alert">
          Records cannot be written: {a.failing}. {a.continue ? 'The server works on without them.' : 'The server refuses work until they can.'}
        </p>
      )}
      <p>
        {a.records.toLocaleString('en')} records.{lost}
      </p>
      <Review />
      <p class="note">
        All files, compared by whoever has the public key: <code>serve audit verify DIR</code>, on the server’s machine or with a copy of the log.
      </p>
    </section>
  );
}

/** The last records. They are asked for once, and when that is wanted: each look is a record, too. */
function Review() {
  const seen = useSignal<AuditLog | null>(null);
  const trouble = useSignal('');
  const busy = useSignal(true);
  const look = async (signal?: AbortSignal) => {
    busy.value = true;
    try {
      seen.value = await auditLog(signal);
      trouble.value = '';
    } catch (e) {
      if (signal?.aborted) return;
      trouble.value = (e as Error).message;
    }
    busy.value = false;
  };
  useEffect(() => {
    const stopped = new AbortController();
    void look(stopped.signal);
    return () => stopped.abort();
  }, []);
  const log = seen.value?.log;
  return (
    <>
      {trouble.value && (
        <p class="error" role="alert">
          {trouble.value}
        </p>
      )}
      {log && (
        <div role="status">
          <p>
            <span class={`state badge ${log.holds ? 'good' : ''}`}>{log.holds ? 'verified' : 'changed'}</span> {verdict(log)} <span class="note">Read {when(log.verified, '')}.</span>
          </p>
          {!log.holds && (
            <ul class="error">
              {log.problems.map((p) => (
                <li key={`${p.line} ${p.problem}`}>
                  {p.file}
                  {p.line ? `:${p.line}` : ''}: {p.problem}
                </li>
              ))}
            </ul>
          )}
        </div>
      )}
      {log && (
        <>
          {seen.value!.records.length > 0 && <Table caption="Last records, the newest first" heads={heads} rows={seen.value!.records.map(row)} />}
          <details>
            <summary>Last checkpoint, to be kept elsewhere</summary>
            <pre tabIndex={0}>{log.checkpoint}</pre>
          </details>
        </>
      )}
      {(log || trouble.value) && (
        <div class="acts">
          <button type="button" disabled={busy.value} onClick={() => void look()}>
            Read and verify again
          </button>
        </div>
      )}
    </>
  );
}
