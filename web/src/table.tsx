import { useSignal } from '@preact/signals';

/** Number of rows of a table that are shown at first. */
const rowsFirst = 10;

/** A table whose first column names its rows. */
export function Table({ caption, heads, rows }: { caption: string; heads: string[]; rows: (string | number)[][] }) {
  const all = useSignal(false);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={caption}>
      <table>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {heads.map((h, i) => (
              <th key={h} scope="col" class={typeof rows[0]?.[i] === 'number' ? 'number' : undefined}>
                {h}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, all.value ? undefined : rowsFirst).map((row) => (
            <tr key={row[0]}>
              <th scope="row">{row[0]}</th>
              {row.slice(1).map((cell, i) => (
                <td key={i} class={typeof cell === 'number' ? 'number' : undefined}>
                  {cell.toLocaleString('en')}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {!all.value && rows.length > rowsFirst && (
        <button type="button" class="quiet" aria-label={`Show all ${rows.length}: ${caption}`} onClick={() => (all.value = true)}>
          Show all {rows.length}
        </button>
      )}
    </div>
  );
}
