// An HTTP/2 client on Node.js's own: `cut-client.mjs URL CASE`. It reports what it saw, a JSON object a line.
import { once } from 'node:events';
import http2 from 'node:http2';

const [, , url, name] = process.argv;
const session = http2.connect(url);
const report = (event) => console.log(JSON.stringify(event));
const closed = (stream) => new Promise((resolve) => stream.on('close', resolve));

async function text(path) {
  const stream = session.request({ ':path': path });
  let all = '';
  for await (const part of stream) all += part;
  return all;
}

// Sends half an upload, and ends it in this way once the API has received that half.
async function halfUpload(end) {
  const stream = session.request({ ':method': 'POST', ':path': `/upload?name=${name}` });
  stream.on('error', () => {}).resume();
  stream.write('half of it ');
  while (Number(await text(`/received?name=${name}`)) < 11) await new Promise((resolve) => setTimeout(resolve, 20));
  end(stream);
  await closed(stream);
  report({ case: name });
}

// Reads a response to its end, however that comes.
async function read(path, body, until = closed) {
  const stream = session.request({ ':method': body ? 'POST' : 'GET', ':path': path }, { endStream: !body });
  let status, bytes = 0, trailers = false, ended = false, error = null;
  stream.on('response', (fields) => { status = fields[':status']; });
  stream.on('trailers', () => { trailers = true; });
  stream.on('data', (part) => { bytes += part.length; });
  stream.on('end', () => { ended = true; });
  stream.on('error', (failed) => { error = failed.code; });
  if (body) stream.write(body);
  await until(stream);
  report({ case: name, status, bytes, trailers, ended, error, reset: stream.rstCode });
}

const cases = {
  destroy: () => halfUpload((stream) => stream.destroy()),
  fail: () => halfUpload((stream) => stream.destroy(new Error('INTERNAL_ERROR'))),
  whole: () => halfUpload((stream) => stream.end('and the rest')),
  cut_json: () => read('/cut?how=destroy'),
  cut_grpc: () => read('/cut?how=close&type=application/grpc'),
  early: () => read('/early', 'the first part of a large upload', (stream) => once(stream, 'end')),
};
await cases[name]();
session.destroy();
