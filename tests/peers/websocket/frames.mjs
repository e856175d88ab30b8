// RFC 6455's frames, as far as these peers need them: over any duplex stream of Node.js.

import { randomBytes } from 'node:crypto';

export const TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10;

// A frame; whoever is a client masks it.
export function frame(opcode, payload, { mask = false, final = true } = {}) {
  payload = Buffer.from(payload);
  const head = [(final ? 0x80 : 0) | opcode];
  const masked = mask ? 0x80 : 0;
  if (payload.length < 126) head.push(masked | payload.length);
  else if (payload.length < 65536) head.push(masked | 126, payload.length >> 8, payload.length & 0xff);
  else {
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(payload.length));
    head.push(masked | 127, ...length);
  }
  if (!mask) return Buffer.concat([Buffer.from(head), payload]);
  const key = randomBytes(4);
  return Buffer.concat([Buffer.from(head), key, payload.map((byte, at) => byte ^ key[at % 4])]);
}

export function close(code, reason, options) {
  const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
  payload.writeUInt16BE(code);
  payload.write(reason, 2);
  return frame(CLOSE, payload, options);
}

// The frames that come on `stream`, one by one; whether they are masked must be as `masked` says.
export async function* frames(stream, masked) {
  let buffer = Buffer.alloc(0);
  let needed = 2;
  const chunks = [];
  let held = 0;
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    chunks.push(chunk);
    held += chunk.length;
    if (held < needed) continue;
    buffer = Buffer.concat(chunks.splice(0));
    for (;;) {
      needed = 2;
      if (buffer.length < needed) break;
      const short = buffer[1] & 0x7f;
      let at = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (((buffer[1] & 0x80) !== 0) !== masked) throw new Error('a mask is where none may be, or the other way round');
      needed = at + (masked ? 4 : 0);
      if (buffer.length < needed) break;
      const length = short === 126 ? buffer.readUInt16BE(2) : short === 127 ? Number(buffer.readBigUInt64BE(2)) : short;
      const key = masked ? buffer.subarray(at, at + 4) : null;
      at = needed;
      needed = at + length;
      if (buffer.length < needed) break;
      let payload = buffer.subarray(at, needed);
      if (key) payload = payload.map((byte, index) => byte ^ key[index % 4]);
      yield { opcode: buffer[0] & 0x0f, final: (buffer[0] & 0x80) !== 0, payload: Buffer.from(payload) };
      buffer = buffer.subarray(needed);
    }
    chunks.push(buffer);
    held = buffer.length;
  }
}

export function tell(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}
