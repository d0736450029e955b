/** Sending a file: the sender of wsstream.file.v1. */

import { LEAF, TreeDigest } from "./wsstream-digest.js";
import { TransferError } from "./wsstream-link.js";
import { isSize, MAX_CHECK, Transfer, unexpected } from "./wsstream-transfer.js";

const HEARTBEAT = 10000; // milliseconds

/** A file that is sent. Made by `FilesClient.upload`. */
export class Upload extends Transfer {
  op = "put";
  #file;
  #etag;
  #token;
  #onToken;
  #state = "";
  /** @type {string | undefined} known once all was sent */
  #digest;

  constructor(client, file, options) {
    super(client, options.name ?? file.name ?? "file", file.size, options);
    this.#file = file;
    this.#etag = options.etag ?? `${file.size}-${file.lastModified ?? 0}`;
    this.#token = options.token;
    this.#onToken = options.onToken;
  }

  async attempt(link) {
    const file = this.#file;
    const offer = {
      t: "offer",
      id: this.id,
      name: this.name,
      size: file.size,
      mtime: file.lastModified ?? null,
      hashes: ["sha256-tree"],
      etag: this.#etag,
      digest: this.#digest,
      token: this.#token,
    };
    this.tell("waiting");
    let answer = await this.#offer(offer);
    if (answer.check) {
      this.tell("checking");
      const { from, to, digest } = answer.check;
      if ((await this.telling("hashing", this.#digestOf(from, to))) !== digest) {
        this.check();
        answer = await this.#offer({ ...offer, fresh: true, token: undefined });
      }
    }
    if (answer.t === "accept") answer = await this.#send(answer);
    this.#state = "over";
    return { name: answer.name, size: answer.size, digest: answer.digest, hash: answer.hash };
  }

  async #offer(offer) {
    this.check();
    this.#state = "offered";
    this.link?.post(offer);
    return this.event();
  }

  /** At once, as acks may follow at once. */
  #accepted(accept) {
    this.#state = accept.check ? "checking" : "sending";
    this.#token = accept.token;
    this.#onToken?.(accept.token);
    this.acknowledged = this.sent = this.resumedAt = accept.offset;
    this.window = accept.window;
    this.events.push(accept);
  }

  async #send(accept) {
    const size = this.#file.size;
    const digest = new TreeDigest();
    const resumed = accept.offset > 0;
    // What was sent before is hashed beside the rest. The error, if any, is raised where it is awaited.
    const hashed = resumed ? this.#hash(digest, 0, size) : null;
    hashed?.catch(() => this.wake());
    this.#state = "sending";
    this.tell("sending");
    let ahead = this.#read(this.sent, accept.segment);
    while (this.sent < size) {
      const bytes = await ahead;
      while (this.paused || this.inFlight(bytes.length) > Math.min(this.window, this.maxInFlight)) {
        await this.change();
      }
      this.check();
      this.link?.sendData(bytes);
      this.sent += bytes.length;
      ahead = this.#read(this.sent, accept.segment);
      ahead.catch(() => {}); // raised in the next round
      if (!resumed) await digest.update(bytes);
    }
    if (hashed) {
      this.tell("hashing");
      await this.telling("hashing", hashed);
    }
    this.#digest = await digest.hex();
    this.check();
    this.#state = "sent";
    this.tell("verifying");
    this.link?.post({ t: "end", id: this.id, size, digest: this.#digest });
    return this.event();
  }

  /** Bytes on the way once `more` are sent. */
  inFlight(more) {
    return this.sent - this.acknowledged + more;
  }

  /** @returns {Promise<Uint8Array>} */
  async #read(start, most) {
    const stop = Math.min(start + most, this.#file.size);
    try {
      return new Uint8Array(await this.#file.slice(start, stop).arrayBuffer());
    } catch {
      throw new TransferError("changed", "the file has changed, or cannot be read", "never");
    }
  }

  async #hash(digest, from, to) {
    const link = this.link;
    for (let at = from; at < to && this.link === link; at += LEAF) {
      await digest.update(await this.#read(at, Math.min(LEAF, to - at)));
    }
  }

  async #digestOf(from, to) {
    const digest = new TreeDigest();
    await this.#hash(digest, from, to);
    return digest.hex();
  }

  onTick() {
    const sends = this.#state === "sending" || this.#state === "checking";
    if (sends && this.link && this.link.silence > HEARTBEAT) {
      this.link.post({ t: "progress", id: this.id, phase: "waiting", done: this.sent, total: this.size });
    }
  }

  /** Tell the server that nothing more comes. Its part is worth keeping, unless a person cancelled. */
  giveUp(link, error) {
    if (!["offered", "checking", "sending", "sent"].includes(this.#state) || this.failure) return;
    const code = error instanceof TransferError ? error.error : "internal";
    const keep = code !== "cancelled" && code !== "changed";
    link.post({ t: "abort", id: this.id, code, reason: "", keep });
    this.#state = "over";
  }

  discard() {}

  data() {
    throw new TransferError("protocol", "data came during an upload");
  }

  take(message) {
    const offered = this.#state === "offered";
    switch (message.t) {
      case "ack":
        if (!offered) this.#acknowledge(message);
        break;
      case "progress":
        break;
      case "accept":
        if (!offered || !isAccept(message, this.#file.size)) throw unexpected(message);
        this.#accepted(message);
        break;
      case "done":
        if (!(offered || this.#state === "sent") || !this.#isMine(message)) throw unexpected(message);
        this.events.push(message);
        break;
      case "reject":
        if (!offered) throw unexpected(message);
        this.#stop(message);
        break;
      case "cancel":
      case "error":
        this.link?.post({ t: "abort", id: this.id, code: message.code, reason: "", keep: true });
        this.#stop(message);
        break;
      default:
        throw unexpected(message);
    }
    this.wake();
  }

  #acknowledge({ written, durable, window }) {
    const sane = written >= this.acknowledged && written <= this.sent && durable >= 0 && durable <= written;
    if (!sane || (window != null && !(window > 0))) throw new TransferError("protocol", "an ack cannot be");
    this.acknowledged = written;
    this.durable = durable;
    this.window = window ?? this.window;
  }

  #isMine({ size, digest }) {
    return size === this.#file.size && digest === this.#digest;
  }

  #stop({ code, reason, retry }) {
    this.#state = "over";
    this.failure = new TransferError(String(code), String(reason ?? ""), retry);
  }
}

function isAccept({ offset, hash, window, segment, token, check }, size) {
  const sizes = isSize(offset) && offset <= size && isSize(segment) && segment > 0 && window >= segment;
  return sizes && isCheck(check, offset) && hash === "sha256-tree" && typeof token === "string";
}

function isCheck(check, offset) {
  if (!offset || !check) return !offset && !check;
  const { from, to } = check;
  return to === offset && isSize(from) && from < to && to - from <= MAX_CHECK;
}
