// A WebSocket client over HTTP/2 (RFC 8441), by Node.js: `client.mjs URL CASE...`. It tells how each case went, a JSON
// object a line, and fails where one did.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import http2 from 'node:http2';
import { BINARY, CLOSE, PING, PONG, TEXT, close, frame, frames, tell } from './frames.mjs';

const [, , url, ...names] = process.argv;
const session = http2.connect(url);
const settings = await new Promise((resolve) => session.once('remoteSettings', resolve));
assert.equal(settings.enableConnectProtocol, true, 'RFC 8441 section 3');

const mask = { mask: true };

async function open(path, more = {}) {
  const stream = session.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':path': path, 'sec-websocket-version': '13', ...more,
  }, { endStream: false });
  const answer = await new Promise((resolve, reject) => {
    stream.once('response', resolve);
    stream.once('error', reject);
  });
  return { stream, answer, incoming: frames(stream, false) };
}

async function next(incoming, opcode) {
  const { value } = await incoming.next();
  assert.ok(value, 'the stream has ended');
  assert.equal(value.opcode, opcode);
  return value;
}

async function part({ stream, incoming }, code) {
  stream.write(close(code, 'enough', mask));
  assert.equal((await next(incoming, CLOSE)).payload.readUInt16BE(), code);
  stream.end();
  for await (const _ of incoming) assert.fail('nothing follows a close frame');
}

const cases = {
  async messages() {
    const socket = await open('/echo');
    assert.equal(socket.answer[':status'], 200);
    for (const name of ['sec-websocket-accept', 'upgrade', 'connection']) assert.equal(socket.answer[name], undefined);
    for (const length of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
      const message = randomBytes(length);
      socket.stream.write(frame(BINARY, message, mask));
      const parts = [];
      for (let more = true; more;) {
        const { value } = await socket.incoming.next();
        parts.push(value.payload);
        more = !value.final;
      }
      assert.ok(Buffer.concat(parts).equals(message));
    }
    await part(socket, 1000);
  },
  async fragments() {
    const socket = await open('/echo');
    socket.stream.write(frame(TEXT, 'one ', { mask: true, final: false }));
    socket.stream.write(frame(PING, 'in between', mask));
    socket.stream.write(frame(0, 'two', mask));
    const parts = [];
    let pongs = 0;
    for (let more = true; more;) {
      const { value } = await socket.incoming.next();
      if (value.opcode === PONG) pongs += 1;
      else [more] = [!value.final, parts.push(value.payload)];
    }
    assert.equal(Buffer.concat(parts).toString(), 'one two');
    if (pongs === 0) await next(socket.incoming, PONG);
    await part(socket, 1000);
  },
  async pings() {
    const socket = await open('/echo');
    socket.stream.write(frame(PING, 'are you there', mask));
    assert.equal((await next(socket.incoming, PONG)).payload.toString(), 'are you there');
    await part(socket, 1000);
  },
  async own_close() {
    for (const code of [1000, 1001, 4000]) await part(await open('/echo'), code);
  },
  async their_close() {
    for (const code of [1000, 1001, 4000]) {
      const socket = await open(`/close/${code}`);
      socket.stream.write(frame(TEXT, 'now', mask));
      const { payload } = await next(socket.incoming, CLOSE);
      assert.equal(payload.readUInt16BE(), code);
      socket.stream.write(frame(CLOSE, payload, mask));
      for await (const _ of socket.incoming) assert.fail('nothing follows a close frame');
      socket.stream.end();
    }
  },
  async subprotocol() {
    const socket = await open('/echo', { 'sec-websocket-protocol': 'orders.v1, other' });
    assert.equal(socket.answer['sec-websocket-protocol'], 'orders.v1');
    await part(socket, 1000);
  },
  async refusals() {
    for (const status of [401, 403, 426, 503]) {
      const { answer, stream } = await open(`/refuse/${status}`);
      assert.deepEqual([answer[':status'], answer['x-why']], [status, 'because']);
      stream.end();
    }
  },
  async resets() {
    const { stream } = await open('/echo');
    stream.on('error', () => {});
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await new Promise((resolve) => stream.once('close', resolve));
  },
  async other_protocols() {
    const { answer, stream } = await open('/echo', { ':protocol': 'connect-udp' });
    assert.ok(answer[':status'] >= 400 && answer['cupbearer-error'], JSON.stringify(answer));
    stream.end();
  },
  async another_origin() {
    const { answer, stream } = await open('/echo', { origin: 'http://evil.example' });
    assert.deepEqual([answer[':status'], answer['cupbearer-error']], [403, 'origin_refused']);
    stream.end();
  },
  async until_the_end() {
    const { incoming, stream } = await open('/echo');
    tell({ case: 'until_the_end', open: true });
    const { payload } = await next(incoming, CLOSE);
    stream.write(frame(CLOSE, payload.subarray(0, 2), mask));
    for await (const _ of incoming) assert.fail('nothing follows a close frame');
    tell({ case: 'until_the_end', code: payload.readUInt16BE(), reason: payload.subarray(2).toString() });
    stream.end();
  },
};

for (const name of names) {
  await cases[name]();
  tell({ case: name, passed: true });
}
session.close();
