/** The files on the server: one folder of them, page by page. */

import { explain, formatDate, formatSize } from "./page-format.js";
import { element, focusOn } from "./page-transfers.js";

const SHOWN = 200;

const find = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Shows a folder, and lets others be opened. */
export class Folder {
  #client;
  #download;
  #onError;
  #name = "";
  /** @type {AsyncGenerator<import("./wsstream-files.js").Entry> | null} */
  #entries = null;

  /**
   * @param {import("./wsstream-files.js").FilesClient} client
   * @param {((name: string, size?: number) => void) | null} download null: the server does not let files be got
   * @param {() => void} onError called when a folder could not be shown
   */
  constructor(client, download, onError) {
    this.#client = client;
    this.#download = download;
    this.#onError = onError;
    find("refresh").addEventListener("click", () => this.open(this.#name));
    find("more").addEventListener("click", () => this.#showMore());
    find("files").hidden = false;
  }

  /** Show the folder again. */
  refresh() {
    return this.open(this.#name);
  }

  /** @param {string} name */
  async open(name) {
    this.#name = name;
    this.#entries = this.#client.list(name);
    this.#showCrumbs();
    await this.#show(true);
  }

  /** Open a folder from a button of the list or of the path, which goes away with what it is in. */
  async #enter(name) {
    const opened = this.open(name);
    focusOn(find("crumbs").querySelector("[aria-current]") ?? find("files-title"));
    await opened;
  }

  async #showMore() {
    const shown = find("file-list").children.length;
    await this.#show();
    const first = /** @type {HTMLElement | null} */ (find("file-list").children[shown]?.querySelector("button"));
    focusOn(first ?? find("files-title"));
  }

  async #show(anew = false) {
    const entries = this.#entries;
    const items = [];
    let note = "";
    let over = false;
    try {
      while (items.length < SHOWN && !over) {
        const { value, done } = /** @type {IteratorResult<any>} */ (await entries?.next());
        if (done) over = true;
        else items.push(this.#item(value));
      }
      if (anew && !items.length) note = "Nothing is here yet.";
    } catch (error) {
      note = explain(error);
      over = true;
      this.#onError();
    }
    if (entries !== this.#entries) return; // another folder was opened meanwhile
    if (anew) find("file-list").replaceChildren(...items);
    else find("file-list").append(...items);
    find("file-note").textContent = note;
    find("file-note").hidden = !note;
    find("more").hidden = over;
  }

  #item({ name, kind, size, mtime }) {
    const path = this.#name ? `${this.#name}/${name}` : name;
    if (kind === "folder") return element("li", {}, this.#button(`${name}/`, "folder", () => this.#enter(path)));
    const figures = element("p", { className: "figures", textContent: formatSize(size ?? 0) });
    if (mtime) figures.title = formatDate(mtime);
    const item = element("li", {}, element("p", { className: "name", title: name, textContent: name }), figures);
    const download = this.#download;
    if (download) {
      const button = this.#button("Download", "", () => download(path, size));
      button.setAttribute("aria-label", `Download ${name}`);
      item.append(button);
    }
    return item;
  }

  #button(text, className, act) {
    const button = element("button", { type: "button", textContent: text, className });
    button.addEventListener("click", act);
    return button;
  }

  #showCrumbs() {
    const parts = this.#name ? this.#name.split("/") : [];
    const crumbs = parts.map((part, i) => {
      const path = parts.slice(0, i + 1).join("/");
      if (i < parts.length - 1) return this.#button(part, "", () => this.#enter(path));
      const here = element("span", { textContent: part, tabIndex: -1 });
      here.setAttribute("aria-current", "true");
      return here;
    });
    if (parts.length) crumbs.unshift(this.#button("All files", "", () => this.#enter("")));
    find("crumbs").replaceChildren(...crumbs);
  }
}
