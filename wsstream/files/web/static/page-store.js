/**
 * The uploads that are not finished, which outlive the page: what is known of each in `localStorage`, and, where
 * the browser has them, the handles of the files in IndexedDB. A file is known by name, size and date.
 */

const KEY = "wsstream.unfinished";
const MOST = 50;
const DATABASE = "wsstream";
const HANDLES = "handles";

/** @typedef {{key: string, name: string, size: number, mtime: number, token?: string, acknowledged: number}} Note */

/** @param {File} file */
export const keyOf = (file) => `${file.name}\0${file.size}\0${file.lastModified}`;

/** @returns {Note[]} the latest first */
export function notes() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((note) => typeof note?.key === "string") : [];
  } catch {
    return [];
  }
}

function write(list) {
  try {
    localStorage.setItem(KEY, JSON.stringify(list.slice(0, MOST)));
  } catch {
    // Without storage there is nothing to resume after a reload; the server has the part all the same.
  }
}

/**
 * Keep what is known of an upload.
 * @param {File} file
 * @param {{token?: string, acknowledged?: number}} changes
 */
export function remember(file, changes) {
  const key = keyOf(file);
  const others = notes().filter((note) => note.key !== key);
  const old = notes().find((note) => note.key === key);
  const { name, size, lastModified: mtime } = file;
  write([{ acknowledged: 0, ...old, key, name, size, mtime, ...changes }, ...others]);
}

/** @param {string} key */
export function forget(key) {
  write(notes().filter((note) => note.key !== key));
  withHandles("readwrite", (handles) => handles.delete(key));
}

/**
 * @param {File} file
 * @param {FileSystemFileHandle} handle
 */
export const keepHandle = (file, handle) => withHandles("readwrite", (handles) => handles.put(handle, keyOf(file)));

/**
 * The file of a note, if the browser has kept its handle and the person lets the page read it. Call it in the
 * handler of a click.
 * @param {string} key
 * @returns {Promise<File | null>}
 */
export async function reopen(key) {
  const handle = await withHandles("readonly", (handles) => handles.get(key));
  try {
    if (!handle || (await handle.requestPermission({ mode: "read" })) !== "granted") return null;
    const file = await handle.getFile();
    return keyOf(file) === key ? file : null;
  } catch {
    return null;
  }
}

/**
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest} use
 * @returns {Promise<any>} null without a database
 */
function withHandles(mode, use) {
  return new Promise((resolve) => {
    const fail = () => resolve(null);
    try {
      const opening = indexedDB.open(DATABASE, 1);
      opening.onerror = fail;
      opening.onupgradeneeded = () => opening.result.createObjectStore(HANDLES);
      opening.onsuccess = () => {
        const request = use(opening.result.transaction(HANDLES, mode).objectStore(HANDLES));
        request.onerror = fail;
        request.onsuccess = () => {
          resolve(request.result);
          opening.result.close();
        };
      };
    } catch {
      fail();
    }
  });
}
