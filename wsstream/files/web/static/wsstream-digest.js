/**
 * The digest `sha256-tree` of wsstream.file.v1, made while bytes pass: a Merkle tree (RFC 9162 section 2.1.1)
 * over parts of 256 KiB. `crypto.subtle` cannot hash a file piece by piece; of this tree it hashes a part at a
 * time, so a file of any size takes one part of memory.
 *
 * Pages that did not come over TLS or from this machine have no `crypto.subtle`; there, SHA-256 is in JavaScript.
 */

/** Bytes in one part of the file, a leaf of the tree. */
export const LEAF = 262144;

/** The digest of a file, which takes its bytes in order. */
export class TreeDigest {
  #leaf = new Uint8Array(LEAF + 1); // the first byte, 0, marks a leaf
  #filled = 0;
  #leaves = 0;
  /** @type {Uint8Array[]} roots of complete trees, the largest first */
  #roots = [];

  /**
   * Take the next bytes. They may be changed once the promise is fulfilled.
   * @param {Uint8Array} bytes
   */
  async update(bytes) {
    for (let start = 0; start < bytes.length;) {
      const piece = bytes.subarray(start, start + LEAF - this.#filled);
      this.#leaf.set(piece, 1 + this.#filled);
      this.#filled += piece.length;
      start += piece.length;
      if (this.#filled === LEAF) {
        await this.#add(await sha256(this.#leaf));
        this.#filled = 0;
      }
    }
  }

  /** @param {Uint8Array} leaf */
  async #add(leaf) {
    this.#roots.push(leaf);
    this.#leaves += 1;
    // Two trees of one size make one: as often as the number of leaves can be halved.
    for (let size = this.#leaves; size % 2 === 0; size /= 2) {
      const right = /** @type {Uint8Array} */ (this.#roots.pop());
      const left = /** @type {Uint8Array} */ (this.#roots.pop());
      this.#roots.push(await node(left, right));
    }
  }

  /**
   * The digest of all bytes so far. More may follow.
   * @returns {Promise<string>} 64 hexadecimal digits
   */
  async hex() {
    const roots = [...this.#roots];
    if (this.#filled) roots.push(await sha256(this.#leaf.subarray(0, 1 + this.#filled)));
    let root = roots.pop() ?? (await sha256(new Uint8Array(0)));
    for (let left = roots.pop(); left; left = roots.pop()) root = await node(left, root);
    return Array.from(root, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

/**
 * @param {Uint8Array} left
 * @param {Uint8Array} right
 */
function node(left, right) {
  const bytes = new Uint8Array(65);
  bytes[0] = 1;
  bytes.set(left, 1);
  bytes.set(right, 33);
  return sha256(bytes);
}

/**
 * @param {Uint8Array} bytes
 * @returns {Promise<Uint8Array>} 32 bytes
 */
async function sha256(bytes) {
  const subtle = globalThis.crypto?.subtle;
  return subtle ? new Uint8Array(await subtle.digest("SHA-256", bytes)) : sha256InScript(bytes);
}

const PRIMES = [];
for (let n = 2; PRIMES.length < 64; n++) if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
/** @param {number} x the first 32 bits of its fraction */
const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
const START = PRIMES.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
const ROUND = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));
const words = new Int32Array(64);

/**
 * SHA-256 (FIPS 180-4), for pages without `crypto.subtle`.
 * @param {Uint8Array} bytes
 * @returns {Uint8Array} 32 bytes
 */
export function sha256InScript(bytes) {
  const state = Int32Array.from(START);
  const whole = bytes.length - (bytes.length % 64);
  const blocks = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < whole; at += 64) compress(state, blocks, at);
  const rest = bytes.length - whole;
  const tail = new DataView(new ArrayBuffer(rest < 56 ? 64 : 128));
  for (let i = 0; i < rest; i++) tail.setUint8(i, bytes[whole + i]);
  tail.setUint8(rest, 0x80);
  tail.setUint32(tail.byteLength - 8, Math.floor(bytes.length / 2 ** 29));
  tail.setUint32(tail.byteLength - 4, (bytes.length << 3) >>> 0);
  for (let at = 0; at < tail.byteLength; at += 64) compress(state, tail, at);
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => digest.setInt32(4 * i, word));
  return new Uint8Array(digest.buffer);
}

/**
 * @param {Int32Array} state
 * @param {DataView} view
 * @param {number} at
 */
function compress(state, view, at) {
  for (let i = 0; i < 16; i++) words[i] = view.getInt32(at + 4 * i);
  for (let i = 16; i < 64; i++) {
    const x = words[i - 15];
    const y = words[i - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    words[i] = (words[i - 16] + s0 + words[i - 7] + s1) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[i] + words[i]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => (state[i] = (state[i] + word) | 0));
}
