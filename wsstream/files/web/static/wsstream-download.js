/** Receiving a file: the receiver of wsstream.file.v1. */

import { TreeDigest } from "./wsstream-digest.js";
import { SEGMENT, TransferError } from "./wsstream-link.js";
import { isSize, MAX_CHECK, MIN_WINDOW, Transfer, unexpected } from "./wsstream-transfer.js";

const ACK_MOVING = 1000; // milliseconds between two acks while there is news
const ACK_IDLE = 10000; // and at any time

/** @typedef {import("./wsstream-link.js").Link} Link */

/** A file that is received. Made by `FilesClient.download`. */
export class Download extends Transfer {
  op = "get";
  #sink;
  #digest = new TreeDigest();
  #state = "";
  /** @type {string | undefined} */
  #etag;
  /** @type {Uint8Array} what was written last, for the server to compare when it goes on */
  #tail = new Uint8Array(0);
  /** @type {Uint8Array[]} */
  #segments = [];
  #reach = 0; // no byte after this was ever allowed
  #acked = 0;
  #ackedAt = 0;
  #news = false;
  #periods = [0, 0, 0]; // bytes written in this second and the two before
  #period = 0;

  constructor(client, name, sink, options) {
    super(client, name, null, options);
    this.#sink = sink;
  }

  async attempt(link) {
    this.#segments = [];
    this.#state = "asked";
    this.tell("waiting");
    link.post({ t: "get", id: this.id, name: this.name, etag: this.#etag });
    for (let offer = await this.event(); ; ) {
      await this.#accept(offer);
      const next = await this.#receive();
      if (next.t === "end") return this.#finish(next);
      offer = next; // the server's file has other bytes: once more, from 0
    }
  }

  async #accept(offer) {
    this.size = offer.size;
    const long = offer.size !== null && this.acknowledged > offer.size;
    if (this.acknowledged && (offer.etag !== this.#etag || offer.fresh || long)) {
      await this.#use(() => this.#sink.restart());
      this.#digest = new TreeDigest();
      this.acknowledged = 0;
      this.#tail = new Uint8Array(0);
    }
    this.#etag = offer.etag;
    const offset = this.acknowledged;
    this.sent = this.resumedAt = this.#acked = offset;
    this.window = MIN_WINDOW;
    this.#reach = offset + this.window;
    this.#ackedAt = Date.now();
    let check;
    if (offset) {
      const digest = new TreeDigest();
      await digest.update(this.#tail);
      check = { from: offset - this.#tail.length, to: offset, digest: await digest.hex() };
    }
    this.check();
    this.#state = "receiving";
    const limits = { window: this.window, segment: SEGMENT, token: "page" };
    this.link?.post({ t: "accept", id: this.id, offset, hash: "sha256-tree", ...limits, check });
    this.tell("receiving");
  }

  /** Write what comes, until the server says that this was all, or makes another offer. */
  async #receive() {
    for (;;) {
      const bytes = this.paused ? undefined : this.#segments.shift();
      if (bytes) {
        await this.#use(() => this.#sink.write(bytes));
        await this.#digest.update(bytes);
        this.#keep(bytes);
        this.#written(bytes.length);
        this.check(); // not before: the sink has the bytes
      } else if (this.events.length && !this.#segments.length) {
        return this.events.shift();
      } else {
        await this.change();
      }
    }
  }

  #keep(bytes) {
    // All of a small piece is worth less than the end of the one before with it.
    const tail = bytes.length < 1024 && this.#tail.length ? concat(this.#tail.slice(-SEGMENT), bytes) : bytes;
    this.#tail = tail.subarray(Math.max(0, tail.length - MAX_CHECK));
  }

  #written(size) {
    this.#turn();
    this.acknowledged += size;
    this.#periods[0] += size;
    this.#news = true;
    if (4 * (this.acknowledged - this.#acked) >= this.window) this.#ack();
  }

  #turn() {
    const second = Math.floor(Date.now() / 1000);
    const over = Math.min(3, second - this.#period);
    this.#period = second;
    this.#periods = [...new Array(Math.max(0, over)).fill(0), ...this.#periods].slice(0, 3);
  }

  /** The window is what was written in the last two to three seconds. */
  #ack() {
    this.#turn();
    const wrote = this.#periods.reduce((sum, size) => sum + size);
    this.window = Math.max(MIN_WINDOW, Math.min(wrote, this.maxInFlight));
    this.#reach = Math.max(this.#reach, this.acknowledged + this.window);
    this.#acked = this.acknowledged;
    this.#ackedAt = Date.now();
    this.#news = false;
    this.link?.post({ t: "ack", id: this.id, written: this.acknowledged, durable: 0, window: this.window });
  }

  onTick(now) {
    const active = this.#state === "receiving" || this.#state === "verifying";
    if (active && now - this.#ackedAt >= (this.#news ? ACK_MOVING : ACK_IDLE)) this.#ack();
  }

  async #finish(end) {
    this.tell("verifying");
    const digest = await this.#digest.hex();
    if (end.size !== this.acknowledged) throw new TransferError("protocol", "the end is not where the data ended");
    if (end.size !== (this.size ?? end.size)) throw new TransferError("short");
    if (end.digest !== digest) {
      this.#etag = undefined; // nothing of it can be trusted
      throw new TransferError("digest-mismatch");
    }
    await this.telling("syncing", this.#use(() => this.#sink.close()));
    this.check();
    this.link?.post({ t: "done", id: this.id, size: end.size, digest, hash: "sha256-tree", name: this.name, durable: 0 });
    this.#state = "over";
    return { name: this.name, size: end.size, digest, hash: "sha256-tree" };
  }

  /**
   * Let the sink do something.
   * @param {() => unknown} work
   */
  async #use(work) {
    try {
      await work();
    } catch (error) {
      const full = error?.name === "QuotaExceededError";
      if (error instanceof TransferError) throw error;
      throw new TransferError(full ? "no-space" : "io", String(error?.message ?? error), "never");
    }
  }

  /** Cancel, then read and drop what is still on its way, until the server has said that it is over. */
  async giveUp(link, error) {
    const active = ["asked", "receiving", "verifying"].includes(this.#state);
    if (!active || this.failure || link.ended) return;
    const code = error instanceof TransferError ? error.error : "internal";
    this.#state = "cancelling";
    this.#segments = [];
    link.post({ t: "cancel", id: this.id, code, reason: "", keep: code !== "digest-mismatch" });
    await new Promise((resolve) => {
      this.#dropped = resolve;
    });
  }

  #dropped = () => {};

  async discard() {
    try {
      await this.#sink.discard();
    } catch {
      // It may never have been opened.
    }
  }

  lost(error) {
    super.lost(error);
    this.#dropped();
  }

  data(bytes) {
    if (this.#state === "cancelling") return;
    const most = this.size === null ? this.#reach : Math.min(this.#reach, this.size);
    const sane = bytes.length > 0 && bytes.length <= SEGMENT && this.sent + bytes.length <= most;
    if (this.#state !== "receiving" || !sane) throw new TransferError("protocol", "data came without credit");
    this.sent += bytes.length;
    this.#segments.push(bytes);
    this.wake();
  }

  take(message) {
    const cancelling = this.#state === "cancelling";
    switch (message.t) {
      case "progress":
        break;
      case "offer":
        if (cancelling) break;
        if (!["asked", "receiving"].includes(this.#state) || !isOffer(message)) throw unexpected(message);
        this.#state = "deciding";
        this.events.push(message);
        break;
      case "end":
        if (cancelling) break;
        if (this.#state !== "receiving") throw unexpected(message);
        this.#state = "verifying";
        this.events.push(message);
        break;
      case "reject":
      case "abort":
      case "error":
        this.#state = "over";
        this.failure ??= new TransferError(String(message.code), String(message.reason ?? ""), message.retry);
        this.#dropped();
        break;
      default:
        throw unexpected(message);
    }
    this.wake();
  }
}

function isOffer({ size, etag, hashes }) {
  return (size === null || isSize(size)) && typeof etag === "string" && hashes?.includes?.("sha256-tree");
}

function concat(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
