// What is attached to the message that is being written.

import { signal } from '@preact/signals';

import { bytes, largestFile, largestFiles, readText, sizeOf, type TextFile } from './files';
import { model } from './session';

export const images = signal<string[]>([]); // data URLs
export const files = signal<TextFile[]>([]);
/** Why files were not attached. */
export const refused = signal<string[]>([]);

/** Maximum size of an image, in bytes: the server accepts 32 MiB per request, and base64 adds a third. */
const largestImage = 8 << 20;

/** Maximum number of files that are attached at once. */
const mostFiles = 20;

/** Whether the model is known to see no images. */
export const isBlind = () => model.value?.sees_images === false;

export async function attach(given: Iterable<File>): Promise<void> {
  const list = [...given];
  refused.value = list.length > mostFiles ? [`${list.length} files are too many: ${mostFiles} are taken at once.`] : [];
  for (const file of list.slice(0, mostFiles)) {
    const why = file.type.startsWith('image/') && file.type !== 'image/svg+xml' ? await attachImage(file) : await attachText(file);
    if (why) refused.value = [...refused.value, why];
  }
}

/** Attaches an image, or says why not. */
async function attachImage(file: File): Promise<string> {
  if (isBlind()) return `${file.name} is an image, and ${model.value!.id} sees none.`;
  if (file.size > largestImage) return `${file.name} is larger than ${bytes(largestImage)}.`;
  images.value = [...images.value, await dataURL(file)];
  return '';
}

async function attachText(file: File): Promise<string> {
  if (file.size > largestFile) return `${file.name} is larger than ${bytes(largestFile)}.`;
  let content: Uint8Array;
  try {
    content = new Uint8Array(await file.arrayBuffer());
  } catch {
    return `${file.name} cannot be read: is it a folder?`;
  }
  const result = readText(file.name, content);
  if ('refused' in result) return result.refused;
  if (sizeOf(...files.value, result.file) > largestFiles) return `${file.name} is too much: all files together may have ${bytes(largestFiles)}.`;
  files.value = [...files.value, result.file];
  return '';
}

export function detachAll(): void {
  images.value = [];
  files.value = [];
  refused.value = [];
}

function dataURL(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
