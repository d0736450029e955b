// The peer that runs `ws` of npm. It speaks the language of harness.py.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import WebSocket, { WebSocketServer } from 'ws';

const MAX_SIZE = 64 << 20; // bytes
const MAX_UNREAD = 4; // messages

function pattern(seed, size) {
  const unit = Buffer.from(Array.from({ length: 251 }, (_, i) => (seed + i) % 251));
  return Buffer.alloc(size, unit);
}

function numbered(index, size) {
  const payload = Buffer.from(`${index}:`.padEnd(size, '.'));
  return { kind: index % 2 ? 'binary' : 'text', payload };
}

function cut(payload, sizes) {
  const pieces = [];
  let start = 0;
  for (const size of sizes) {
    pieces.push(payload.subarray(start, start + size));
    start += size;
  }
  return [...pieces, payload.subarray(start)];
}

// The parameters of permessage-deflate under the library's names; every message is compressed.
function deflate(options) {
  if (!options.deflate) return {};
  const perMessageDeflate = { threshold: 0 };
  for (const [name, value] of Object.entries(options.deflate)) {
    perMessageDeflate[name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())] = value;
  }
  return { perMessageDeflate };
}

// One WebSocket of the library.
class Link {
  constructor(ws, options) {
    this.ws = ws;
    this.messages = [];
    this.readers = [];
    this.pongs = new Map();
    this.closed = new Promise((resolve) => {
      ws.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    ws.on('error', () => {}); // 'close' follows, with 1006
    ws.on('message', (payload, isBinary) => {
      const message = { kind: isBinary ? 'binary' : 'text', payload };
      const reader = this.readers.shift();
      if (reader) reader(message);
      else if (this.messages.push(message) >= MAX_UNREAD) ws.pause();
    });
    ws.on('pong', (payload) => {
      const key = payload.toString('hex');
      this.pongs.get(key)?.();
      this.pongs.delete(key);
    });
    if (options.keepalive) this.keepAlive(...options.keepalive);
  }

  // As keep_alive in harness.py: the library has none of its own.
  async keepAlive(interval, timeout) {
    while (this.ws.readyState <= WebSocket.OPEN) {
      await sleep(interval * 1000);
      const late = setTimeout(() => this.ws.terminate(), timeout * 1000);
      this.ws.on('close', () => clearTimeout(late));
      await this.ping(Buffer.from('alive?'));
      clearTimeout(late);
    }
  }

  receive() {
    const message = this.messages.shift();
    if (this.messages.length === 0) this.ws.resume();
    return message ? Promise.resolve(message) : new Promise((resolve) => this.readers.push(resolve));
  }

  async send(kind, fragments) {
    for (let i = 0; i < fragments.length; i++) {
      const options = { binary: kind === 'binary', fin: i === fragments.length - 1 };
      await new Promise((resolve, reject) => {
        this.ws.send(fragments[i], options, (error) => (error ? reject(error) : resolve()));
      });
    }
  }

  ping(payload) {
    return new Promise((resolve) => {
      this.pongs.set(payload.toString('hex'), resolve);
      this.ws.ping(payload);
    });
  }
}

// The other end of one control connection.
class Control {
  constructor() {
    this.opened = new Promise((resolve) => (this.setOpened = resolve));
    this.drop = () => {};
  }

  async serve(options) {
    const ours = options.subprotocols ?? [];
    const server = new WebSocketServer({
      host: '127.0.0.1',
      port: 0,
      maxPayload: MAX_SIZE,
      ...deflate(options),
      handleProtocols: (offered) => ours.find((name) => offered.has(name)) ?? false,
    });
    server.on('connection', (ws) => this.setOpened(new Link(ws, options)));
    this.drop = () => {
      for (const ws of server.clients) ws.terminate();
      server.close();
    };
    await once(server, 'listening');
    return { url: `ws://127.0.0.1:${server.address().port}/chat?room=1` };
  }

  async connect({ url, ...options }) {
    const ws = new WebSocket(url, options.subprotocols ?? [], {
      maxPayload: MAX_SIZE,
      ...deflate(options),
    });
    this.drop = () => ws.terminate();
    const link = new Link(ws, options);
    await once(ws, 'open');
    this.setOpened(link);
  }

  async open() {
    return { subprotocol: (await this.opened).ws.protocol };
  }

  async send({ text, hex, pattern_of, cuts }) {
    const kind = text === undefined ? 'binary' : 'text';
    const literal = kind === 'text' ? Buffer.from(text) : Buffer.from(hex ?? '', 'hex');
    const payload = pattern_of ? pattern(...pattern_of) : literal;
    await (await this.opened).send(kind, cut(payload, cuts ?? []));
  }

  async receive() {
    const { kind, payload } = await (await this.opened).receive();
    const sha256 = createHash('sha256').update(payload).digest('hex');
    return { kind, size: payload.length, sha256, frames: null };
  }

  async echo({ count }) {
    const link = await this.opened;
    for (let i = 0; i < count; i++) {
      const { kind, payload } = await link.receive();
      await link.send(kind, [payload]);
    }
  }

  async send_numbered({ count, size }) {
    const link = await this.opened;
    for (let i = 0; i < count; i++) {
      const { kind, payload } = numbered(i, size);
      await link.send(kind, [payload]);
    }
  }

  async receive_numbered({ count, size }) {
    const link = await this.opened;
    for (let i = 0; i < count; i++) {
      const { kind, payload } = await link.receive();
      const expected = numbered(i, size);
      if (kind !== expected.kind || !payload.equals(expected.payload)) {
        throw new Error(`message ${i} came as ${kind} ${payload.subarray(0, 40)}`);
      }
    }
  }

  async exchange_numbered(sizes) {
    await Promise.all([this.send_numbered(sizes), this.receive_numbered(sizes)]);
  }

  async ping({ hex }) {
    await (await this.opened).ping(Buffer.from(hex, 'hex'));
  }

  async close({ code, reason }) {
    const link = await this.opened;
    if (code === null) link.ws.close();
    else link.ws.close(code, reason);
    return link.closed;
  }

  async closed() {
    return (await this.opened).closed;
  }
}

async function answer(control, line) {
  const { do: operation, ...request } = JSON.parse(line);
  try {
    return (await control[operation](request)) ?? {};
  } catch (error) {
    return { error: error.stack };
  }
}

const controls = createServer((socket) => {
  const control = new Control();
  let last = Promise.resolve();
  socket.on('error', () => {}); // 'close' follows
  socket.on('close', () => control.drop());
  createInterface({ input: socket }).on('line', (line) => {
    last = last.then(async () => socket.write(JSON.stringify(await answer(control, line)) + '\n'));
  });
});
controls.listen(0, '127.0.0.1', () => console.log(controls.address().port));
process.stdin.resume().on('end', () => process.exit(0));
