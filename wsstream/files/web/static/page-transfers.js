/** The list of transfers: one item for each file on its way, with its buttons. */

import { explain, formatRate, formatSize, formatTime } from "./page-format.js";

/** @typedef {import("./wsstream-upload.js").Upload | import("./wsstream-download.js").Download} Transfer */

const PHASES = {
  queued: "In the queue",
  connecting: "Connecting",
  waiting: "Waiting for the server",
  checking: "Comparing what the server has with the file",
  sending: "Sending",
  receiving: "Receiving",
  paused: "Paused",
  hashing: "Computing the digest",
  verifying: "Verifying",
};

const UP = "M8 13V3M4 7l4-4 4 4";
const DOWN = "M8 3v10M4 9l4 4 4-4";

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/**
 * Move the focus here, as what has it goes away, and the keyboard would begin again at the top of the page.
 * @param {HTMLElement} target
 */
export const focusOn = (target) => target.focus({ preventScroll: true });

/** @param {string} path */
function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [name, value] of Object.entries({ width: "14", height: "14", viewBox: "0 0 16 16", class: "way" })) {
    svg.setAttribute(name, value);
  }
  svg.setAttribute("aria-hidden", "true");
  for (const [name, value] of Object.entries({ d: path, fill: "none", stroke: "currentColor", "stroke-width": "1.75" })) {
    drawn.setAttribute(name, value);
  }
  svg.append(drawn);
  return svg;
}

/** The list. `active` has the transfers that move or wait for the network. */
export class TransferList {
  #section = /** @type {HTMLElement} */ (document.getElementById("transfers"));
  #list = /** @type {HTMLElement} */ (document.getElementById("transfer-list"));
  #clear = /** @type {HTMLElement} */ (document.getElementById("clear"));
  #announce = /** @type {HTMLElement} */ (document.getElementById("announce"));
  /** @type {Set<Transfer>} */
  #running = new Set();

  constructor() {
    this.#clear.addEventListener("click", () => {
      for (const item of [...this.#list.children]) if (/** @type {HTMLElement} */ (item).dataset.over) item.remove();
      this.#update();
      focusOn(/** @type {any} */ (document.getElementById(this.#section.hidden ? "title" : "transfers-title")));
    });
  }

  /** @returns {Transfer[]} those that are under way */
  get active() {
    return [...this.#running].filter((transfer) => transfer.phase !== "queued");
  }

  /**
   * Show a transfer. Returns what its `onProgress` has to call.
   * @param {string} name
   * @param {boolean} up
   * @param {(onProgress: (progress: any) => void) => Transfer} start
   * @returns {Transfer}
   */
  add(name, up, start) {
    const item = new Item(name, up);
    const transfer = start((progress) => item.show(progress));
    item.bind(transfer);
    this.#list.prepend(item.root);
    this.#running.add(transfer);
    this.#update();
    transfer.result.then(
      (result) => this.#over(transfer, item, () => item.done(result), `${name}: done`),
      (error) => this.#over(transfer, item, () => item.failed(error), `${name}: ${explain(error)}`),
    );
    return transfer;
  }

  #over(transfer, item, show, words) {
    this.#running.delete(transfer);
    const focused = item.root.contains(document.activeElement);
    show();
    if (focused) item.root.focus();
    this.#announce.textContent = words;
    this.#update();
  }

  #update() {
    const items = [.../** @type {any} */ (this.#list.children)];
    this.#section.hidden = !items.length;
    this.#clear.hidden = !items.some((item) => item.dataset.over);
  }
}

/** One item of the list. */
class Item {
  #name;
  #bar = element("progress", { max: 1, value: 0 });
  #figures = element("p", { className: "figures" });
  #state = element("p", { className: "state", textContent: PHASES.queued });
  #pause = element("button", { type: "button", textContent: "Pause" });
  #cancel = element("button", { type: "button", textContent: "Cancel" });
  #actions = element("div", { className: "actions" }, this.#pause, this.#cancel);

  constructor(name, up) {
    this.#name = name;
    this.#bar.setAttribute("aria-label", name);
    this.#cancel.setAttribute("aria-label", `Cancel ${name}`);
    const title = element("p", { className: "name", title: name }, icon(up ? UP : DOWN), name);
    title.append(element("span", { className: "visually-hidden", textContent: up ? " (upload)" : " (download)" }));
    const parts = [title, this.#actions, this.#figures, this.#bar, this.#state];
    this.root = element("li", { tabIndex: -1 }, ...parts);
    this.#label(false);
  }

  /** @param {Transfer} transfer */
  bind(transfer) {
    this.#pause.addEventListener("click", () => {
      if (transfer.paused) transfer.resume();
      else transfer.pause();
      this.#label(transfer.paused);
      this.show(transfer.progress);
    });
    this.#cancel.addEventListener("click", () => transfer.cancel());
  }

  #label(paused) {
    this.#pause.textContent = paused ? "Resume" : "Pause";
    this.#pause.setAttribute("aria-label", `${this.#pause.textContent} ${this.#name}`);
  }

  /** @param {import("./wsstream-files.js").Progress} progress */
  show(progress) {
    const { phase, size, acknowledged, rate, secondsLeft, resumedAt, error } = progress;
    this.root.dataset.phase = phase;
    const moving = phase === "sending" || phase === "receiving";
    if (size) this.#bar.value = acknowledged / size;
    else if (size === null) this.#bar.removeAttribute("value"); // of unknown length
    const figures = [size === null ? formatSize(acknowledged) : `${formatSize(acknowledged)} of ${formatSize(size)}`];
    if (moving && rate) figures.push(formatRate(rate));
    if (moving && secondsLeft) figures.push(`${formatTime(secondsLeft)} left`);
    this.#figures.textContent = figures.join(" · ");
    let state = PHASES[phase] ?? phase;
    if (moving && resumedAt) state += `, resumed at ${formatSize(resumedAt)}`;
    if (phase === "retrying" || (phase === "connecting" && error)) state = `${explain(error)} Trying again`;
    if (this.#state.textContent !== state) this.#state.textContent = state;
  }

  /** @param {import("./wsstream-files.js").Result} result */
  done({ name, size, digest, hash }) {
    this.#end("done");
    this.#bar.value = 1;
    this.#figures.textContent = formatSize(size);
    const code = element("code", { textContent: `${digest.slice(0, 16)}…`, title: digest });
    const stored = name === this.#name ? "" : ` as ${name}`;
    this.#state.replaceChildren(`Complete${stored}. Both ends have the digest `, code, ` (${hash})`);
  }

  failed(error) {
    this.#end("failed");
    this.#state.textContent = explain(error);
  }

  #end(phase) {
    this.root.dataset.phase = phase;
    this.root.dataset.over = "yes";
    this.#actions.remove();
  }
}
