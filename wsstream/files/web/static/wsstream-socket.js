/**
 * A connection to the server: by `WebSocketStream` where the browser has it, else by `WebSocket`.
 */

import { TransferError } from "./wsstream-errors.js";

export const SUBPROTOCOL = "wsstream.file.v1";

const OPEN_TIMEOUT = 15000; // milliseconds

/**
 * A connection, whichever interface of the browser carries it.
 * @typedef {object} Socket
 * @property {string} protocol
 * @property {number} queued bytes that were handed to the browser and that it has not passed on
 * @property {(data: string | Uint8Array) => void} send
 * @property {(code: number, reason: string) => void} close
 */

/**
 * @typedef {object} SocketOptions
 * @property {"auto" | "WebSocket" | "WebSocketStream"} [api] which interface to use
 * @property {any} [WebSocket] a class to use in place of the browser's
 */

/**
 * @param {string} url
 * @param {SocketOptions} options
 * @param {(data: string | Uint8Array) => void} take
 * @param {(code: number, reason: string) => void} over
 * @returns {Promise<Socket>}
 */
export function openSocket(url, options, take, over) {
  const api = options.api ?? "auto";
  const Streams = /** @type {any} */ (globalThis).WebSocketStream;
  if (api === "WebSocketStream" || (api === "auto" && Streams && !options.WebSocket)) {
    return openStreams(url, Streams, take, over);
  }
  return openClassic(url, options.WebSocket ?? globalThis.WebSocket, take, over);
}

const unreachable = () => new TransferError("lost", "the server cannot be reached");

/** @returns {Promise<Socket>} */
function openClassic(url, Kind, take, over) {
  return new Promise((resolve, reject) => {
    const ws = new Kind(url, [SUBPROTOCOL]);
    ws.binaryType = "arraybuffer";
    const timer = setTimeout(() => {
      reject(unreachable());
      ws.close();
    }, OPEN_TIMEOUT);
    ws.onmessage = ({ data }) => take(typeof data === "string" ? data : new Uint8Array(data));
    ws.onerror = () => {}; // `onclose` follows
    ws.onclose = ({ code, reason }) => {
      clearTimeout(timer);
      reject(unreachable());
      over(code, reason);
    };
    ws.onopen = () => {
      clearTimeout(timer);
      resolve({
        protocol: ws.protocol,
        get queued() {
          return ws.bufferedAmount;
        },
        send: (data) => ws.send(data),
        close: (code, reason) => ws.close(code, reason),
      });
    };
  });
}

/** @returns {Promise<Socket>} */
async function openStreams(url, Kind, take, over) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), OPEN_TIMEOUT);
  const stream = new Kind(url, { protocols: [SUBPROTOCOL], signal: giveUp.signal });
  stream.closed.catch(() => {});
  let opened;
  try {
    opened = await stream.opened;
  } catch {
    throw unreachable();
  } finally {
    clearTimeout(timer);
  }
  const reader = opened.readable.getReader();
  const writer = opened.writable.getWriter();
  writer.closed.catch(() => {});
  let queued = 0;
  const read = async () => {
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        take(value instanceof ArrayBuffer ? new Uint8Array(value) : value);
      }
      const { closeCode, reason } = await stream.closed;
      over(closeCode, reason);
    } catch (error) {
      over(error?.closeCode ?? 1006, error?.reason ?? "");
    }
  };
  const socket = {
    protocol: opened.protocol,
    get queued() {
      return queued;
    },
    send(data) {
      const size = data.length;
      queued += size;
      const sent = () => {
        queued -= size;
      };
      writer.write(data).then(sent, sent);
    },
    close: (closeCode, reason) => stream.close({ closeCode, reason }),
  };
  setTimeout(read); // once the caller has the socket
  return socket;
}
