/** How a transfer fails: the names of wsstream.file.v1, and the exception. */

/** @typedef {"never" | "now" | "later"} Retry */

/** @type {Record<string, [Retry, number]>} whether to try again, and the close code */
export const ERRORS = {
  protocol: ["never", 4002],
  unsupported: ["never", 4501],
  unauthorized: ["never", 4401],
  denied: ["never", 4403],
  "invalid-name": ["never", 4400],
  "not-found": ["never", 4404],
  exists: ["never", 4412],
  "too-large": ["never", 4413],
  quota: ["never", 4506],
  "no-space": ["later", 4507],
  busy: ["later", 4503],
  changed: ["now", 4420],
  short: ["now", 4421],
  "digest-mismatch": ["now", 4422],
  io: ["later", 4510],
  timeout: ["now", 4408],
  superseded: ["never", 4409],
  cancelled: ["never", 4499],
  shutdown: ["later", 4012],
  internal: ["later", 4500],
  lost: ["later", 4500], // of this module: the connection broke, or could not be opened
};

/** @type {any[]} */
const RETRIES = ["never", "now", "later"];

/** Why a transfer or a connection ended. */
export class TransferError extends Error {
  /**
   * @param {string} error one of the protocol's names, or `lost`; others count as `internal`
   * @param {string} [reason]
   * @param {Retry} [retry] by default what the protocol says
   */
  constructor(error, reason = "", retry) {
    const known = Object.hasOwn(ERRORS, error) ? error : "internal";
    super(reason ? `${error}: ${reason}` : error);
    this.name = "TransferError";
    this.error = known;
    this.reason = reason;
    this.retry = RETRIES.includes(retry) ? /** @type {Retry} */ (retry) : ERRORS[known][0];
  }
}
