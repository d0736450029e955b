/** The graphs of the last 30 seconds: throughput, credit in use, and what waits in the browser. */

import { formatRate, formatSize } from "./page-format.js";

const SAMPLES = 300;
const EVERY = 100; // milliseconds
const SMOOTH = 20; // samples in the mean of the rate: acks come in bursts

/** @typedef {import("./wsstream-files.js").Progress} Progress */

/** One strip: a filled curve, and perhaps a dashed limit above it. */
class Strip {
  #canvas;
  #output;
  #colour;
  #values = new Array(SAMPLES).fill(0);
  #limits = new Array(SAMPLES).fill(0);
  #top = 1;

  /** @param {string} name */
  constructor(name) {
    this.#canvas = /** @type {HTMLCanvasElement} */ (document.getElementById(`${name}-graph`));
    this.#output = /** @type {HTMLOutputElement} */ (document.getElementById(`${name}-now`));
    this.#colour = `--${name}`;
  }

  /**
   * @param {number} value
   * @param {number} limit
   * @param {string} text
   */
  add(value, limit, text) {
    this.#values = [...this.#values.slice(1), value];
    this.#limits = [...this.#limits.slice(1), limit];
    if (this.#output.value !== text) this.#output.value = text;
  }

  /** The largest value that is shown. */
  get most() {
    return Math.max(1, ...this.#values, ...this.#limits);
  }

  /** @param {number} [least] what the top of the strip is worth at least */
  draw(least = 1) {
    const canvas = this.#canvas;
    const scale = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * scale);
    const height = Math.round(canvas.clientHeight * scale);
    if (!width) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const most = Math.max(least, this.most) * 1.15;
    this.#top += (most - this.#top) * (most > this.#top ? 0.5 : 0.08);
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const style = getComputedStyle(canvas);
    const colour = style.getPropertyValue(this.#colour);
    context.clearRect(0, 0, width, height);
    context.strokeStyle = style.getPropertyValue("--line");
    context.lineWidth = scale;
    for (const part of [1 / 3, 2 / 3]) {
      context.beginPath();
      context.moveTo(0, Math.round(height * part) + 0.5);
      context.lineTo(width, Math.round(height * part) + 0.5);
      context.stroke();
    }
    context.strokeStyle = context.fillStyle = colour;
    const path = (values) => {
      context.beginPath();
      values.forEach((value, i) => {
        context.lineTo((i / (SAMPLES - 1)) * width, height - (value / this.#top) * (height - 2 * scale) - scale);
      });
    };
    path(this.#values);
    context.lineWidth = 1.75 * scale;
    context.lineJoin = "round";
    context.stroke();
    context.lineTo(width, height);
    context.lineTo(0, height);
    context.globalAlpha = 0.16;
    context.fill();
    context.globalAlpha = 0.75;
    if (this.#limits.some((limit) => limit > 0)) {
      path(this.#limits);
      context.setLineDash([4 * scale, 3 * scale]);
      context.lineWidth = 1.25 * scale;
      context.stroke();
      context.setLineDash([]);
    }
    context.globalAlpha = 1;
  }
}

/** The three strips, and the sentence above them. */
export class Graph {
  #rate = new Strip("rate");
  #credit = new Strip("credit");
  #queue = new Strip("queue");
  #verdict = /** @type {HTMLElement} */ (document.getElementById("verdict"));
  #before = new Map();
  #moved = new Array(SMOOTH).fill(0);
  #full = 0; // how often of late the credit was used up
  #share = 0; // how much of what is on the way waited in the browser of late
  #said = 0;
  #look;

  /** @param {() => (import("./wsstream-upload.js").Upload | import("./wsstream-download.js").Download)[]} look returns the transfers that are active */
  constructor(look) {
    this.#look = look;
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    let count = 0;
    setInterval(() => {
      this.#sample();
      if (!calm.matches || count++ % 10 === 0) this.#draw();
    }, EVERY);
  }

  #draw() {
    this.#rate.draw();
    this.#credit.draw();
    this.#queue.draw(this.#credit.most); // both are parts of what is on the way: the same scale
  }

  #sample() {
    const active = this.#look();
    let [moved, inFlight, window, queued] = [0, 0, 0, 0];
    const now = new Map();
    for (const transfer of active) {
      const progress = transfer.progress;
      now.set(transfer, progress.acknowledged);
      moved += Math.max(0, progress.acknowledged - (this.#before.get(transfer) ?? progress.acknowledged));
      inFlight += progress.inFlight;
      window += Math.min(progress.window, transfer.maxInFlight);
      queued += transfer.op === "put" ? progress.queued : progress.inFlight;
    }
    this.#before = now;
    this.#moved = [...this.#moved.slice(1), moved];
    const rate = this.#moved.reduce((sum, bytes) => sum + bytes) / ((SMOOTH * EVERY) / 1000);
    this.#rate.add(rate, 0, formatRate(rate));
    const credit = window ? `${formatSize(inFlight)} of ${formatSize(window)}` : "none";
    this.#credit.add(inFlight, window, credit);
    this.#queue.add(queued, 0, formatSize(queued));
    this.#full += ((window && inFlight > window * 0.6 ? 1 : 0) - this.#full) * 0.1;
    this.#share += ((inFlight ? queued / inFlight : 0) - this.#share) * 0.1;
    this.#say(active);
  }

  /** Say what holds the transfers back, but not more often than every other second. */
  #say(active) {
    const now = Date.now();
    const text = this.#judge(active);
    if (text === this.#verdict.textContent || now - this.#said < 2000) return;
    this.#said = now;
    this.#verdict.textContent = text;
  }

  #judge(active) {
    const [first] = active;
    if (!first) return "Nothing is moving.";
    const { phase } = first.progress;
    if (phase === "paused") return "Paused: the sender waits, and the connection stays open.";
    if (phase === "retrying" || phase === "connecting") return "No connection. It goes on by itself.";
    if (phase !== "sending" && phase !== "receiving") return "The two ends compare what they have.";
    if (this.#full < 0.5) return "Data moves as fast as it is read and sent.";
    if (first.op === "get") return "This page’s reader sets the pace: the credit is used up, and the server waits.";
    return this.#share > 0.5
      ? "The network sets the pace: what waits in the browser stays below the credit."
      : "The server’s disk sets the pace: the credit is used up, and this page waits.";
  }
}
