/** What an upload and a download of wsstream-files.js have in common: attempts, pauses, waiting, progress. */

import { TransferError } from "./wsstream-link.js";

export const MIN_WINDOW = 524288; // bytes
export const MAX_CHECK = 1 << 20;
const BUSY = 4000; // milliseconds after which an end that works says so
const RATE_OVER = 3000;

/** @typedef {import("./wsstream-link.js").Link} Link */

/** One file on its way. `result` is a promise of the `Result`, or fails with a `TransferError`. */
export class Transfer {
  id = 0;
  name;
  /** @type {number | null} */
  size;
  phase = "queued";
  acknowledged = 0;
  durable = 0;
  sent = 0;
  window = 0;
  resumedAt = 0;
  /** @type {TransferError | null} */
  error = null;
  paused = false;
  /** @type {Promise<import("./wsstream-files.js").Result>} */
  result;
  /** @type {Link | null} */
  link = null;
  #client;
  #options;
  #cancelled = false;
  /** @type {TransferError | null} what ended the active request */
  failure = null;
  /** @type {any[]} answers of the server */
  events = [];
  /** @type {(() => void)[]} */
  #waiters = [];
  /** @type {[number, number][]} */
  #samples = [];

  constructor(client, name, size, options) {
    this.name = name;
    this.size = size;
    this.#client = client;
    this.#options = options;
    this.result = client.enqueue(() => this.#run());
    this.result.catch(() => {}); // whoever wants to know looks at it later
  }

  /** Stop moving bytes; the connection stays. */
  pause() {
    this.paused = true;
    this.wake();
  }

  /** Go on, now, if it waits to try again. */
  resume() {
    this.paused = false;
    this.wake();
  }

  /** End it for good. `result` fails with `cancelled`. */
  cancel() {
    this.#cancelled = true;
    this.wake();
  }

  /** @returns {import("./wsstream-files.js").Progress} */
  get progress() {
    const rate = this.#rate();
    const left = this.size === null || !rate ? null : (this.size - this.acknowledged) / rate;
    const moving = this.phase === "sending" || this.phase === "receiving";
    return {
      name: this.name,
      phase: moving && this.paused ? "paused" : this.phase,
      size: this.size,
      acknowledged: this.acknowledged,
      durable: this.durable,
      sent: this.sent,
      window: this.window,
      inFlight: Math.max(0, this.sent - this.acknowledged),
      queued: this.link?.queued ?? 0,
      resumedAt: this.resumedAt,
      rate,
      secondsLeft: left,
      error: this.error,
    };
  }

  get maxInFlight() {
    return Math.max(MIN_WINDOW, this.#options.maxInFlight);
  }

  /** @param {string} phase */
  tell(phase) {
    this.phase = phase;
    this.#options.onProgress?.(this.progress);
  }

  // -- attempts ------------------------------------------------------------------------------

  async #run() {
    for (let failures = 1; ; failures++) {
      const before = this.acknowledged;
      try {
        if (this.#cancelled) throw new TransferError("cancelled");
        this.tell("connecting");
        const result = await this.#attempt(await this.#client.link());
        this.acknowledged = result.size;
        this.tell("done");
        return result;
      } catch (error) {
        if (this.acknowledged > before) failures = 1;
        const again = error instanceof TransferError && error.retry !== "never" && !this.#cancelled;
        if (!again || failures > this.#options.retries) {
          await this.discard();
          throw this.#cancelled ? new TransferError("cancelled") : error;
        }
        this.error = error;
        await this.#wait(failures, error.retry);
      }
    }
  }

  /** @param {Link} link */
  async #attempt(link) {
    this.link = link;
    this.failure = null;
    this.events = [];
    this.#samples = [];
    try {
      link.begin(this, this.op);
      const result = await this.attempt(link);
      this.error = null;
      return result;
    } catch (error) {
      await this.giveUp(link, error);
      throw error;
    } finally {
      link.finish(this);
      this.link = null;
    }
  }

  /** A pause of random length, longer each time; it ends early when the browser is online again. */
  async #wait(failures, retry) {
    this.tell("retrying");
    const most = retry === "now" ? 100 : Math.min(30000, 250 * 2 ** failures);
    const wake = () => this.wake();
    globalThis.addEventListener?.("online", wake);
    const timer = setTimeout(wake, Math.random() * most);
    await new Promise((resolve) => this.#waiters.push(resolve));
    clearTimeout(timer);
    globalThis.removeEventListener?.("online", wake);
  }

  // -- what a link calls ---------------------------------------------------------------------

  tick(now) {
    if (this.phase !== "done") this.#options.onProgress?.(this.progress);
    this.onTick(now);
  }

  lost(error) {
    this.failure ??= error;
    this.wake();
  }

  // -- waiting -------------------------------------------------------------------------------

  wake() {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }

  /** Raise what has ended the request. */
  check() {
    if (this.failure) throw this.failure;
    if (this.#cancelled) throw new TransferError("cancelled");
  }

  /** Wait until something has happened. */
  async change() {
    this.check();
    await new Promise((resolve) => this.#waiters.push(resolve));
    this.check();
  }

  /** The server's next answer. */
  async event() {
    while (!this.events.length) await this.change();
    return this.events.shift();
  }

  /**
   * Wait for `work`, and tell the server meanwhile that this end is at it.
   * @template T
   * @param {string} phase
   * @param {Promise<T>} work
   * @returns {Promise<T>}
   */
  async telling(phase, work) {
    const timer = setInterval(() => {
      this.link?.post({ t: "progress", id: this.id, phase, done: this.acknowledged, total: this.size });
    }, BUSY);
    try {
      return await work;
    } finally {
      clearInterval(timer);
    }
  }

  #rate() {
    const now = Date.now();
    const samples = this.#samples;
    if (!samples.length || samples[samples.length - 1][1] !== this.acknowledged) {
      samples.push([now, this.acknowledged]);
    }
    while (samples.length > 2 && samples[1][0] <= now - RATE_OVER) samples.shift();
    const [since, from] = samples[0];
    return now > since ? (1000 * (this.acknowledged - from)) / (now - since) : 0;
  }
}

export const isSize = (value) => Number.isSafeInteger(value) && value >= 0;

/** @param {{t: string}} message */
export function unexpected({ t }) {
  return new TransferError("protocol", `'${t}' is wrong here`);
}
