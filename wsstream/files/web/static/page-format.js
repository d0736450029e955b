/** How the page writes numbers, and what it says of errors. */

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** @param {number} bytes */
export function formatSize(bytes) {
  let unit = 0;
  while (bytes >= 999.5 && unit < UNITS.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes < 9.95 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[unit]}`;
}

/** @param {number} rate bytes a second */
export const formatRate = (rate) => `${formatSize(rate)}/s`;

/** @param {number} seconds */
export function formatTime(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** @param {number} time milliseconds since 1970 */
export const formatDate = (time) =>
  new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

const SAYS = {
  "invalid-name": "The server does not take this name.",
  "not-found": "The server has no such file.",
  exists: "The server has another file of this name, and does not replace it.",
  quota: "Your share of the server’s storage is used up.",
  "no-space": "The storage is full.",
  busy: "The server is busy.",
  changed: "The file has changed, or cannot be read any more. Choose it again.",
  "digest-mismatch": "What arrived is not what was sent.",
  io: "Reading or writing failed.",
  denied: "The server does not allow this.",
  unauthorized: "The server does not know who you are.",
  superseded: "Another connection goes on with this file.",
  cancelled: "Cancelled.",
  shutdown: "The server is shutting down.",
  lost: "The connection is lost.",
  timeout: "The server did not answer.",
};

/** @param {any} error */
export function explain(error) {
  // The server has a limit, and so has a browser that keeps a download in memory: the reason tells which.
  if (error?.error === "too-large") return `The file is too large: ${error.reason}`;
  return SAYS[error?.error] ?? String(error?.reason || error?.message || error);
}
