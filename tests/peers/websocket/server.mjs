// A WebSocket server over HTTP/2 (RFC 8441), by Node.js. It echoes; /close/CODE closes at the first message, and
// /refuse/STATUS refuses. `server.mjs plain` has no extended CONNECT. It tells what it saw, a JSON object a line.

import http2 from 'node:http2';
import { CLOSE, PING, PONG, close, frame, frames, tell } from './frames.mjs';

const extended = process.argv[2] !== 'plain';
const server = http2.createServer({ settings: { enableConnectProtocol: extended } });

server.on('stream', async (stream, fields) => {
  stream.on('error', () => {});
  const path = fields[':path'];
  tell({ event: 'began', path, fields: Object.entries(fields) });
  if (fields[':method'] !== 'CONNECT') return stream.respond({ ':status': 200 }, { endStream: true });
  if (fields[':protocol'] !== 'websocket') return stream.respond({ ':status': 501 }, { endStream: true });
  if (path.startsWith('/refuse/')) {
    stream.respond({ ':status': Number(path.split('/')[2]), 'x-why': 'because' });
    return stream.end('no\n');
  }
  const offered = (fields['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  const agreed = offered.includes('orders.v1') ? { 'sec-websocket-protocol': 'orders.v1' } : {};
  stream.respond({ ':status': 200, ...agreed });
  let code = null;
  let closing = false;
  try {
    for await (const { opcode, final, payload } of frames(stream, true)) {
      if (opcode === CLOSE) {
        code = payload.length ? payload.readUInt16BE() : 1005;
        if (!closing) stream.write(frame(CLOSE, payload));
        break;
      }
      if (path.startsWith('/close/')) {
        closing = true;
        stream.write(close(Number(path.split('/')[2]), 'as you like'));
      } else if (!stream.write(frame(opcode === PING ? PONG : opcode, payload, { final }))) {
        await new Promise((resolve) => stream.once('drain', resolve));
      }
    }
  } catch (error) {
    tell({ event: 'failed', path, error: String(error) });
  }
  stream.end();
  tell({ event: 'ended', path, code, reset: stream.rstCode });
});

server.listen(0, '127.0.0.1', () => tell({ event: 'listening', port: server.address().port }));
