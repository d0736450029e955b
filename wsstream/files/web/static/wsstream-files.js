/**
 * Files over a WebSocket, for web pages: wsstream.file.v1 as a client.
 *
 *     const files = new FilesClient("wss://files.example/");
 *     const transfer = files.upload(input.files[0], { onProgress: (p) => (bar.value = p.acknowledged / p.size) });
 *     const { name, digest } = await transfer.result;
 *
 * A file is read, sent and hashed a segment at a time, as far as the server gives credit. A transfer whose
 * connection is lost goes on where the server's disk, or the sink, has the file.
 *
 * It needs the other files beside it whose names begin with wsstream-, and nothing else.
 */

import { Download } from "./wsstream-download.js";
import { Link, TransferError } from "./wsstream-link.js";
import { Upload } from "./wsstream-upload.js";

export { SUBPROTOCOL, TransferError } from "./wsstream-link.js";
export { TreeDigest } from "./wsstream-digest.js";

/**
 * What moves, and how far it is. All sizes and offsets are bytes of the file.
 * @typedef {object} Progress
 * @property {string} name
 * @property {"queued" | "connecting" | "waiting" | "checking" | "sending" | "receiving" | "paused" | "hashing"
 *   | "verifying" | "retrying" | "done"} phase
 * @property {number | null} size
 * @property {number} acknowledged the receiver has written what is before this
 * @property {number} durable the server's disk has what is before this; uploads only
 * @property {number} sent sent or, for a download, received
 * @property {number} window how much may be on the way
 * @property {number} inFlight how much is on the way: `sent - acknowledged`
 * @property {number} queued how much of that waits in the browser
 * @property {number} resumedAt where the latest attempt began
 * @property {number} rate bytes a second over the last three seconds
 * @property {number | null} secondsLeft
 * @property {TransferError | null} error why it tries again
 */

/**
 * @typedef {object} Result
 * @property {string} name the file's name at the receiver
 * @property {number} size
 * @property {string} digest `sha256-tree` of the file, which both ends have computed
 * @property {string} hash `"sha256-tree"`
 */

/**
 * Where a download goes. Each call is awaited before the next one.
 * @typedef {object} Sink
 * @property {(bytes: Uint8Array) => unknown} write append
 * @property {() => unknown} restart begin again: the file has another content
 * @property {() => unknown} close all is there, with the right digest
 * @property {() => unknown} discard it failed for good, or was cancelled
 */

/**
 * @typedef {object} Entry
 * @property {string} name in the folder
 * @property {"file" | "folder"} kind
 * @property {number} [size]
 * @property {number} [mtime] milliseconds since 1970
 */

/** A server of files. It connects when there is something to do, and moves one file after the other. */
export class FilesClient {
  #url;
  #options;
  /** @type {Link | null} */
  #link = null;
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();

  /**
   * @param {string} url `ws:` or `wss:`
   * @param {object} [options]
   * @param {"auto" | "WebSocket" | "WebSocketStream"} [options.api] which interface of the browser to use;
   *   by default `WebSocketStream` where it has that
   * @param {any} [options.WebSocket] a class to use in place of the browser's, for Node
   * @param {number} [options.retries] how often in a row an attempt may fail without progress (10)
   * @param {number} [options.maxInFlight] the most bytes of a file that are on the way (8 MiB)
   */
  constructor(url, options = {}) {
    this.#url = url;
    this.#options = { retries: 10, maxInFlight: 8 << 20, ...options };
  }

  /**
   * Send a file, once those before it are through.
   * @param {File | Blob} file
   * @param {object} [options]
   * @param {string} [options.name] by default that of the file
   * @param {string} [options.etag] names this content of the file; by default made of size and date
   * @param {string} [options.token] of an earlier attempt
   * @param {(token: string) => void} [options.onToken] called with the token of the server's part, to keep
   * @param {(progress: Progress) => void} [options.onProgress] called ten times a second
   * @returns {Upload}
   */
  upload(file, options = {}) {
    return new Upload(this, file, { ...this.#options, ...options });
  }

  /**
   * Get a file, once those before it are through.
   * @param {string} name
   * @param {Sink} sink
   * @param {object} [options]
   * @param {(progress: Progress) => void} [options.onProgress] called ten times a second
   * @returns {Download}
   */
  download(name, sink, options = {}) {
    return new Download(this, name, sink, { ...this.#options, ...options });
  }

  /**
   * The entries of a folder.
   * @param {string} [folder] "" is the root
   * @returns {AsyncGenerator<Entry>}
   * @throws {TransferError}
   */
  async *list(folder = "") {
    let cursor;
    do {
      const page = await this.enqueue(async () => ask(await this.link(), folder, cursor));
      yield* page.entries;
      cursor = page.cursor;
    } while (cursor);
  }

  /**
   * What the server lets this client do: some of `get`, `list` and `put`.
   * @returns {Promise<string[]>}
   */
  async operations() {
    return (await this.enqueue(() => this.link())).peer.ops;
  }

  /** Close the connection, which ends the active transfer. */
  close() {
    this.#link?.close();
  }

  /**
   * The connection; a new one if there is none, or if the server is about to end it. For this module.
   * @returns {Promise<Link>}
   */
  async link() {
    if (!this.#link || this.#link.ended || this.#link.leaving) {
      this.#link?.close();
      this.#link = null;
      this.#link = await Link.open(this.#url, this.#options);
    }
    return this.#link;
  }

  /**
   * Run `work` after all that came before. For this module.
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  enqueue(work) {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}

/**
 * One page of a folder.
 * @param {Link} link
 * @param {string} name
 * @param {string | undefined} cursor
 * @returns {Promise<{entries: Entry[], cursor?: string}>}
 */
function ask(link, name, cursor) {
  return new Promise((resolve, reject) => {
    const over = (settle, value) => {
      link.finish(request);
      settle(value);
    };
    const request = {
      id: 0,
      take(message) {
        if (message.t === "entries" && Array.isArray(message.entries)) over(resolve, message);
        else if (["reject", "abort", "error"].includes(message.t)) {
          over(reject, new TransferError(message.code, message.reason, message.retry));
        } else if (message.t !== "progress") {
          throw new TransferError("protocol", `'${message.t}' came in answer to a list`);
        }
      },
      data() {
        throw new TransferError("protocol", "data came in answer to a list");
      },
      tick() {},
      lost: reject,
    };
    link.begin(request, "list");
    link.post({ t: "list", id: request.id, name, cursor });
  });
}
