// An HTTP/2 client that gives its requests up: `give-up.mjs URL METHOD PATH COUNT` begins them on one connection, a POST
// with half of its body, and resets their streams at SIGUSR2. It reports what it saw, a JSON object a line.
import http2 from 'node:http2';

const [, , url, method, path, count] = process.argv;
const session = http2.connect(url);
const report = (event) => console.log(JSON.stringify(event));
let heads = 0, bodies = 0, closed = 0;

const streams = Array.from({ length: Number(count) }, () => {
  const stream = session.request({ ':method': method, ':path': path }, { endStream: method === 'GET' });
  stream.on('response', () => { heads += 1; report({ event: 'heads', heads }); });
  stream.once('data', () => { bodies += 1; report({ event: 'bodies', bodies }); });
  stream.on('error', () => {});
  stream.on('close', () => {
    closed += 1;
    if (closed === streams.length) report({ event: 'gone', heads, bodies });
  });
  if (method === 'POST') stream.write('half of it ');
  return stream;
});
session.on('connect', () => report({ event: 'connected' }));
session.on('error', () => {});
process.on('SIGUSR2', () => streams.forEach((stream) => stream.close(http2.constants.NGHTTP2_CANCEL)));
