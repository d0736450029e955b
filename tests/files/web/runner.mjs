// Runs a piece of a test with wsstream-files.js in Node:
//   node runner.mjs FOLDER-OF-THE-MODULE URL OPTIONS CODE
// CODE is the body of an async function with `files`, a FilesClient, and the names in `tools`. What it returns is
// printed as JSON; a TransferError as {"error", "reason", "retry"}.
import { createHash } from "node:crypto";
import { createWriteStream, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, url, options, code] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/${name}.js`).href);
const { FilesClient, TransferError, TreeDigest } = await load("wsstream-files");
const { sha256InScript } = await load("wsstream-digest");

const tools = {
  FilesClient,
  TreeDigest,
  sha256InScript,
  url,
  // The file at `path`, as a page gets it.
  open(path, name) {
    return new File([readFileSync(path)], name ?? path.slice(path.lastIndexOf("/") + 1), { lastModified: 1.7e12 });
  },
  // A sink that counts and digests, and waits `pause` milliseconds for each write.
  sink(pause = 0) {
    const calls = { size: 0, restarts: 0, closed: false, discarded: false, hash: createHash("sha256") };
    return Object.assign(calls, {
      async write(bytes) {
        calls.hash.update(bytes);
        calls.size += bytes.length;
        if (pause) await tools.sleep(pause);
      },
      restart() {
        calls.hash = createHash("sha256");
        calls.size = 0;
        calls.restarts += 1;
      },
      close() {
        calls.closed = true;
      },
      discard() {
        calls.discarded = true;
      },
      sha256() {
        return calls.hash.copy().digest("hex");
      },
    });
  },
  sleep: (time) => new Promise((resolve) => setTimeout(resolve, time)),
  // How a transfer fails.
  async failure(promise) {
    try {
      return await promise;
    } catch (error) {
      if (!(error instanceof TransferError)) throw error;
      const { error: name, reason, retry } = error;
      return { error: name, reason, retry };
    }
  },
};

const chosen = JSON.parse(options);
if (!globalThis.WebSocket) chosen.WebSocket = createRequire(import.meta.url)("../../interop/node_modules/ws");
const files = new FilesClient(url, chosen);
const AsyncFunction = (async () => {}).constructor;
const run = new AsyncFunction("files", ...Object.keys(tools), code);
const result = await run(files, ...Object.values(tools));
files.close();
console.log(JSON.stringify(result ?? null));
