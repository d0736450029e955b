/**
 * One connection that speaks wsstream.file.v1, as a client: what both ends say first, and which message belongs to
 * the active request.
 *
 * It always reads the socket. How much may arrive is limited by the credit that is granted.
 */

import { ERRORS, TransferError } from "./wsstream-errors.js";
import { openSocket, SUBPROTOCOL } from "./wsstream-socket.js";

export { SUBPROTOCOL, TransferError };
export const SEGMENT = 262144;

const MAX_TEXT = 262144; // characters
const HELLO_TIMEOUT = 10000; // milliseconds, as are all times
const PEER_TIMEOUT = 60000;
const TICK = 100;
const HELLO = {
  t: "hello",
  v: 1,
  agent: "wsstream-files.js/1",
  max_segment: SEGMENT,
  hashes: ["sha256-tree"],
  ops: [],
  max_size: null,
  resume: true,
};

/** @typedef {import("./wsstream-socket.js").SocketOptions} SocketOptions */

/**
 * What a link does with the messages of its active request.
 * @typedef {object} Request
 * @property {number} id
 * @property {(message: any) => void} take a message with this id; raises `TransferError`
 * @property {(bytes: Uint8Array) => void} data a binary message; raises `TransferError`
 * @property {(now: number) => void} tick ten times a second
 * @property {(error: TransferError) => void} lost the connection has ended
 */

/** A connection, from the server's hello on. */
export class Link {
  /** @type {any} the server's hello */
  peer = null;
  /** @type {TransferError | null} why it ended */
  ended = null;
  /** Whether the server has said that it is about to end. */
  leaving = false;
  #nextId = 1;
  /** @type {Request | null} */
  #active = null;
  /** @type {import("./wsstream-socket.js").Socket | null} */
  #socket = null;
  #heardAt = 0;
  #sentAt = 0;
  /** @type {any} */
  #ticker;
  /** @type {(error: TransferError | null) => void} */
  #ready = () => {};

  /**
   * Connect, and wait for the server's hello.
   * @param {string} url
   * @param {SocketOptions} [options]
   * @returns {Promise<Link>}
   * @throws {TransferError} there is no server, or it does not speak the protocol
   */
  static async open(url, options = {}) {
    const link = new Link();
    const greeted = new Promise((resolve) => {
      link.#ready = resolve;
    });
    link.#socket = await openSocket(url, options, link.#receive.bind(link), link.#over.bind(link));
    if (link.ended) {
      link.#socket.close(1000, ""); // the server's error came with its answer to the handshake
      throw link.ended;
    }
    link.#heardAt = Date.now();
    link.#ticker = setInterval(() => link.#tick(), TICK);
    // Some browsers open the connection although the server has selected no subprotocol.
    if (link.#socket.protocol === SUBPROTOCOL) link.post(HELLO);
    else link.fail("unsupported", `the server does not speak ${SUBPROTOCOL}`);
    const error = /** @type {TransferError | null} */ (await greeted);
    if (error) throw error;
    return link;
  }

  /** Bytes that wait in the browser. */
  get queued() {
    return this.#socket?.queued ?? 0;
  }

  /** Milliseconds since something was sent. */
  get silence() {
    return Date.now() - this.#sentAt;
  }

  /**
   * Begin a request: it gets an id, and the messages with it.
   * @param {Request} request
   * @param {string} op what the server has to allow
   */
  begin(request, op) {
    if (this.ended) throw this.ended;
    if (!this.peer.ops.includes(op)) throw new TransferError("denied", `the server does not take '${op}'`);
    request.id = this.#nextId;
    this.#nextId += 2;
    this.#active = request;
    this.#heardAt = Date.now();
  }

  /**
   * The request is over; later messages about it are ignored.
   * @param {Request} request
   */
  finish(request) {
    if (this.#active === request) this.#active = null;
  }

  /** @param {object} message */
  post(message) {
    this.#send(JSON.stringify(message));
  }

  /** @param {Uint8Array} bytes a segment */
  sendData(bytes) {
    this.#send(bytes);
  }

  #send(data) {
    if (this.ended) return;
    this.#sentAt = Date.now();
    this.#socket?.send(data);
  }

  /**
   * End the connection with an error, which the server is told.
   * @param {string} error
   * @param {string} reason
   */
  fail(error, reason) {
    if (this.ended) return;
    const [retry, code] = ERRORS[error];
    this.post({ t: "error", code: error, reason, retry });
    this.#end(new TransferError(error, reason), code);
  }

  /** End the connection in good order. */
  close() {
    this.#end(new TransferError("cancelled", "the connection was closed"));
  }

  #over(code, reason) {
    const known = Object.keys(ERRORS).find((name) => ERRORS[name][1] === code && name !== "lost");
    this.#end(new TransferError(known ?? "lost", known ? reason : `the connection ended with ${code}`));
  }

  /**
   * @param {TransferError} error
   * @param {number} [code] to close the connection with
   */
  #end(error, code = 1000) {
    if (this.ended) return;
    this.ended = error;
    clearInterval(this.#ticker);
    this.#socket?.close(code, "");
    this.#ready(error);
    this.#active?.lost(error);
    this.#active = null;
  }

  #receive(data) {
    if (this.ended) return;
    this.#heardAt = Date.now();
    try {
      if (typeof data === "string") this.#receiveText(data);
      else if (this.#active) this.#active.data(data);
      else throw new TransferError("protocol", "data came that belongs to no file");
    } catch (error) {
      if (!(error instanceof TransferError)) throw error;
      this.fail("protocol", error.reason);
    }
  }

  #receiveText(text) {
    if (text.length > MAX_TEXT) throw new TransferError("protocol", "a message is too long");
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      throw new TransferError("protocol", "a message is not JSON");
    }
    if (typeof message?.t !== "string") throw new TransferError("protocol", "a message has no type");
    if (message.t === "error" && message.id == null) {
      this.#end(new TransferError(String(message.code), String(message.reason ?? ""), message.retry));
    } else if (!this.peer) {
      this.#greet(message);
    } else if (message.t === "bye") {
      this.leaving = true;
    } else {
      this.#dispatch(message);
    }
  }

  #greet(hello) {
    const { t, v, ops, hashes } = hello;
    if (t !== "hello" || !Array.isArray(ops) || !Array.isArray(hashes)) {
      throw new TransferError("protocol", "the server did not say hello");
    }
    if (v !== 1 || !hashes.includes("sha256-tree")) {
      this.fail("unsupported", "the server has another version of the protocol, or not sha256-tree");
      return;
    }
    this.peer = hello;
    this.#ready(null);
  }

  #dispatch(message) {
    const { t, id } = message;
    if (!Number.isSafeInteger(id) || id < 1) throw new TransferError("protocol", `'${t}' has no id`);
    if (id % 2 === 0) {
      // A page takes no requests. One that crosses its own is ignored; the server takes it back.
      if (["get", "list", "offer"].includes(t) && !this.#active) {
        this.post({ t: "reject", id, code: "denied", reason: "", retry: "never" });
      }
    } else if (id >= this.#nextId) {
      throw new TransferError("protocol", "a message has an id that no request had");
    } else if (this.#active?.id === id) {
      this.#active.take(message);
    }
  }

  #tick() {
    const now = Date.now();
    const waits = !this.peer || this.#active;
    if (waits && now - this.#heardAt > (this.peer ? PEER_TIMEOUT : HELLO_TIMEOUT)) {
      this.fail("timeout", "the server was silent for too long");
    } else {
      this.#active?.tick(now);
    }
  }
}
