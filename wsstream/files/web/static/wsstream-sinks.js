/**
 * Where a download goes, in bounded memory if the browser lets it:
 *
 * 1. `pickSink`: a file that the person chooses, where there is `showSaveFilePicker`; it is written as it comes.
 * 2. Elsewhere the browser's private file system, from which the complete file is saved without a copy in memory.
 * 3. Without that (a page that did not come over TLS, or a private window) memory, up to 256 MiB.
 */

import { TransferError } from "./wsstream-errors.js";

export const MAX_IN_MEMORY = 256 << 20;

/** @typedef {import("./wsstream-files.js").Sink} Sink */

/**
 * Find the best place for a file. Call it in the handler of a click.
 * @param {string} name the last part of which is proposed
 * @returns {Promise<Sink>}
 * @throws {TransferError} `cancelled`: the person chose no file
 */
export async function pickSink(name) {
  const file = name.slice(name.lastIndexOf("/") + 1);
  const pick = /** @type {any} */ (globalThis).showSaveFilePicker;
  if (pick) {
    try {
      return await handleSink(await pick({ suggestedName: file }));
    } catch (error) {
      if (error?.name === "AbortError") throw new TransferError("cancelled");
      throw new TransferError("io", error?.message);
    }
  }
  return (await privateSink(file)) ?? memorySink(file);
}

/**
 * Write to a file. The browser puts the bytes in its place when it is closed.
 * @param {FileSystemFileHandle} handle
 * @returns {Promise<Sink>}
 */
export async function handleSink(handle) {
  const stream = await handle.createWritable();
  return {
    write: (bytes) => stream.write(/** @type {any} */ (bytes)),
    async restart() {
      await stream.truncate(0);
      await stream.seek(0);
    },
    close: () => stream.close(),
    discard: () => stream.abort(),
  };
}

/**
 * Write to the browser's private file system, and save the complete file as a download.
 * @param {string} name
 * @returns {Promise<Sink | null>} null: this browser or this page has none
 */
export async function privateSink(name) {
  try {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle("wsstream-downloads", { create: true });
    await sweep(folder);
    const part = `${Date.now()}-${Math.random().toString(36).slice(2)}`;
    const handle = await folder.getFileHandle(part, { create: true });
    const sink = await handleSink(handle);
    return {
      ...sink,
      async close() {
        await sink.close();
        save(await handle.getFile(), name);
      },
      async discard() {
        await sink.discard();
        await folder.removeEntry(part);
      },
    };
  } catch {
    return null;
  }
}

/** Remove what was saved by pages that are gone: files a day old. */
async function sweep(folder) {
  for await (const name of folder.keys()) {
    if (Date.now() - parseInt(name, 10) > 86400000) await folder.removeEntry(name).catch(() => {});
  }
}

/**
 * Keep the file in memory, and save it as a download.
 * @param {string} name
 * @returns {Sink}
 */
export function memorySink(name) {
  /** @type {any[]} */
  let parts = [];
  let size = 0;
  const restart = () => {
    parts = [];
    size = 0;
  };
  return {
    write(bytes) {
      size += bytes.length;
      if (size > MAX_IN_MEMORY) {
        throw new TransferError("too-large", "without TLS this browser keeps it in memory: 256 MiB at most", "never");
      }
      parts.push(bytes);
    },
    restart,
    close: () => save(new Blob(parts), name),
    discard: restart,
  };
}

/**
 * @param {Blob} file
 * @param {string} name
 */
function save(file, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
