// Text files that are attached to a message.

export interface TextFile {
  name: string;
  text: string;
}

/** Maximum size of a text file, and of all of a message, in bytes. Few contexts have room for more. */
export const largestFile = 1 << 20;
export const largestFiles = 4 << 20;

/** The text of a file, or why there is none. */
export function readText(name: string, content: Uint8Array): { file: TextFile } | { refused: string } {
  if (content.length > largestFile) return { refused: `${name} is larger than ${bytes(largestFile)}.` };
  if (content.length === 0) return { refused: `${name} is empty.` };
  if (new TextDecoder('latin1').decode(content.subarray(0, 4)) === '%PDF') return { refused: `${name} is a PDF file, which is not read here: copy its text.` };
  if (content.includes(0)) return { refused: `${name} is a binary file: only text is read.` };
  try {
    return { file: { name, text: new TextDecoder('utf-8', { fatal: true }).decode(content) } };
  } catch {
    return { refused: `${name} is not UTF-8 text: save it as UTF-8.` };
  }
}

/** The size of texts as UTF-8, in bytes. */
export function sizeOf(...files: TextFile[]): number {
  const encoder = new TextEncoder();
  return files.reduce((sum, f) => sum + encoder.encode(f.text).length, 0);
}

/** A file as a part of a message of OpenAI's API. */
export function filePart(f: TextFile): object {
  return { type: 'file', file: { filename: f.name, file_data: base64(new TextEncoder().encode(f.text)) } };
}

function base64(content: Uint8Array): string {
  let text = '';
  const step = 1 << 14; // an argument list has a limit
  for (let at = 0; at < content.length; at += step) text += String.fromCharCode(...content.subarray(at, at + step));
  return btoa(text);
}

/** A number of bytes for people, in the units of `serve list`. */
export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${unit > 0 && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}
