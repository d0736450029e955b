/** The page: what the parts of it do together. */

import { FilesClient, TransferError } from "./wsstream-files.js";
import { pickSink } from "./wsstream-sinks.js";
import { Folder } from "./page-folder.js";
import { explain, formatRate, formatSize } from "./page-format.js";
import { Graph } from "./page-graph.js";
import { Login } from "./page-login.js";
import { forget, keepHandle, keyOf, notes, remember, reopen } from "./page-store.js";
import { element, focusOn, TransferList } from "./page-transfers.js";

const find = (id) => /** @type {any} */ (document.getElementById(id));
const here = new URL("./", location.href);
here.protocol = here.protocol.replace("http", "ws");
const CONNECTED = "Connected";
const CHECK_EVERY = 3000; // milliseconds
let checked = 0;
const make = () => new FilesClient(here.href, { retries: Infinity });
const [uploads, downloads, lists] = [make(), make(), make()];
const transfers = new TransferList();
/** @type {Folder | null} */
let folder = null;
/** @type {Login} */
let login;

find("api").textContent = "WebSocketStream" in globalThis ? "WebSocketStream" : "WebSocket";
new Graph(() => /** @type {any} */ (transfers.active));
start();

async function start() {
  for (let pause = 500; ; pause = Math.min(2 * pause, 10000)) {
    try {
      const { control, login: needed } = await settings();
      if (!login && control) bindDisk(control);
      login ??= new Login(needed);
      await login.check();
      const allowed = await lists.operations();
      showConnection("open", CONNECTED);
      find("send").hidden = !allowed.includes("put");
      if (allowed.includes("put")) acceptFiles();
      if (allowed.includes("list")) {
        folder = new Folder(lists, allowed.includes("get") ? download : null, () => login.check());
        await folder.refresh();
      }
      break;
    } catch (error) {
      showConnection("lost", explain(error));
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
  setInterval(watch, 500);
}

function showConnection(state, text) {
  const shown = find("connection");
  if (shown.textContent === text) return;
  shown.dataset.state = state;
  shown.textContent = text;
}

/** Tell the person something that no transfer tells. "" takes back what was told. */
function say(text) {
  find("notice").textContent = text;
  find("notice").hidden = !text;
  find("announce").textContent = text;
}

function watch() {
  const lost = transfers.active.some(({ phase, error }) => phase === "retrying" || (phase === "connecting" && error));
  showConnection(lost ? "lost" : "open", lost ? "No connection" : CONNECTED);
  // A browser does not tell a page why a WebSocket was refused.
  if (lost && Date.now() - checked > CHECK_EVERY) {
    checked = Date.now();
    login.check();
  }
}

/** What this server has of all that the page can do. */
async function settings() {
  const answer = await fetch("settings.json").catch(() => null);
  if (!answer?.ok) throw new TransferError("lost");
  return answer.json();
}

// -- sending -----------------------------------------------------------------------------------

function acceptFiles() {
  const drop = find("drop");
  find("picker").addEventListener("change", () => {
    for (const file of find("picker").files) upload(file);
    find("picker").value = "";
  });
  find("choose").addEventListener("click", choose);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    for (const item of event.dataTransfer?.items ?? []) if (item.kind === "file") take(item);
  });
  showUnfinished();
}

/** A file that was dropped: with a handle where there are handles, so that a reload needs no choice. */
async function take(item) {
  const file = item.getAsFile();
  const isFolder = item.webkitGetAsEntry?.()?.isDirectory;
  const handle = isFolder ? null : await item.getAsFileSystemHandle?.();
  if (isFolder || !file) {
    say("A page cannot send a folder: choose the files in it, or use wsstream send.");
    return;
  }
  if (handle) await keepHandle(file, handle);
  upload(file);
}

async function choose() {
  const pick = /** @type {any} */ (globalThis).showOpenFilePicker;
  if (!pick) {
    find("picker").click();
    return;
  }
  const handles = await pick({ multiple: true }).catch(() => []);
  for (const handle of handles) {
    const file = await handle.getFile();
    await keepHandle(file, handle);
    upload(file);
  }
}

/** @param {File} file */
function upload(file) {
  say("");
  const key = keyOf(file);
  const token = notes().find((note) => note.key === key)?.token;
  let kept = Date.now();
  remember(file, {});
  const transfer = transfers.add(file.name, true, (show) =>
    uploads.upload(file, {
      token,
      onToken: (token) => remember(file, { token }),
      onProgress: (progress) => {
        show(progress);
        if (Date.now() - kept > 1000 && progress.phase === "sending") {
          kept = Date.now();
          remember(file, { acknowledged: progress.acknowledged });
        }
      },
    }),
  );
  showUnfinished(key);
  transfer.result.then(
    () => {
      forget(key);
      folder?.refresh();
    },
    () => forget(key), // cancelled, or refused for good
  );
}

// -- what an earlier page left unfinished ------------------------------------------------------

const running = new Set();

function showUnfinished(started = "") {
  if (started) running.add(started);
  const left = notes().filter((note) => !running.has(note.key));
  find("unfinished").hidden = !left.length;
  find("unfinished-list").replaceChildren(...left.map(unfinishedItem));
}

function unfinishedItem(note) {
  const name = element("p", { className: "name", title: note.name, textContent: note.name });
  const text = `${formatSize(note.acknowledged)} of ${formatSize(note.size)}`;
  const resume = element("button", { type: "button", textContent: "Resume" });
  const drop = element("button", { type: "button", textContent: "Forget" });
  resume.setAttribute("aria-label", `Resume ${note.name}`);
  drop.setAttribute("aria-label", `Forget ${note.name}`);
  resume.addEventListener("click", () => goOn(note));
  drop.addEventListener("click", () => {
    forget(note.key);
    showUnfinished();
    focusOn(find("unfinished").hidden ? find("title") : find("unfinished-title"));
  });
  const buttons = element("div", { className: "actions" }, resume, drop);
  return element("li", {}, name, element("p", { className: "figures", textContent: text }), buttons);
}

/** Go on with an upload: with the handle of its file, or once the person has chosen the file again. */
async function goOn(note) {
  const file = await reopen(note.key);
  if (file) {
    upload(file);
    focusOn(find("transfers-title"));
    return;
  }
  say(`Choose “${note.name}” again: then it goes on where it stopped.`);
  choose();
}

// -- receiving ---------------------------------------------------------------------------------

async function download(name) {
  let sink;
  try {
    sink = await pickSink(name);
  } catch (error) {
    if (error?.error !== "cancelled") say(explain(error));
    return;
  }
  say("");
  const write = sink.write;
  sink.write = async (bytes) => {
    await write(bytes);
    if (readerRate) await new Promise((resolve) => setTimeout(resolve, (1000 * bytes.length) / readerRate));
  };
  transfers.add(name, false, (onProgress) => downloads.download(name, sink, { onProgress }));
}

// -- the sliders -------------------------------------------------------------------------------

/** Bytes a second of a slider's position: from 256 KiB in steps of the square root of 2; at the end, no limit. */
const rateAt = (position) => (position >= 20 ? null : Math.round(262144 * 2 ** (position / 2)));
/** @type {number | null} */
let readerRate = null;

function bindSlider(name, use) {
  const slider = find(name);
  const show = () => {
    const rate = rateAt(Number(slider.value));
    const text = rate ? formatRate(rate) : "full speed";
    find(`${name}-now`).value = text;
    slider.setAttribute("aria-valuetext", text);
    return rate;
  };
  slider.addEventListener("input", () => use(show()));
  show();
}

bindSlider("reader", (rate) => {
  readerRate = rate;
});

/** The slider of the server's disk, where the server has one: it is told by a WebSocket of its own. */
function bindDisk(control) {
  const ws = new WebSocket(here.href, [control]);
  ws.onopen = () => {
    find("disk-control").hidden = false;
    bindSlider("disk", (rate) => ws.send(JSON.stringify({ disk: rate })));
  };
  ws.onclose = () => {
    find("disk-control").hidden = true;
    if (ws.protocol) setTimeout(() => bindDisk(control), 2000);
  };
}
