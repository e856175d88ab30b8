// An API on Node.js's own servers, HTTP/1.1 and HTTP/2 in the clear, that breaks off its responses and reports whether an
// upload came to its end. It reports its ports, and each upload, a JSON object a line.
import http from 'node:http';
import http2 from 'node:http2';

const report = (event) => console.log(JSON.stringify(event));
const received = new Map();

// Resets an HTTP/2 stream with NO_ERROR, and closes an HTTP/1.1 connection.
const cut = (response, how) => {
  if (!response.stream) response.destroy();
  else if (how === 'close') response.stream.close(http2.constants.NGHTTP2_NO_ERROR);
  else response.stream.destroy();
};

const pages = {
  '/upload': (request, response, url) => {
    const name = url.searchParams.get('name');
    let whole = false;
    received.set(name, 0);
    request.on('data', (part) => received.set(name, received.get(name) + part.length));
    request.on('end', () => {
      whole = request.complete !== false && !request.aborted && !request.stream?.aborted;
      if (whole) response.end('stored\n');
    });
    request.on('error', () => {});
    request.on('close', () => report({ event: 'upload', name, whole, bytes: received.get(name) }));
  },
  '/received': (request, response, url) => {
    response.end(String(received.get(url.searchParams.get('name')) ?? 0));
  },
  '/cut': (request, response, url) => {
    const { how, type = 'application/json', length } = Object.fromEntries(url.searchParams);
    const fields = { 'content-type': type };
    if (length) fields['content-length'] = length;
    response.writeHead(200, fields);
    // What was written must be on its way before the end of it is.
    response.write('{"items": [1, 2, 3', () => setTimeout(() => cut(response, how), 100));
  },
  // All of a response, and then no wish for the rest of the upload (RFC 9113 section 8.1).
  '/early': (request, response) => {
    response.writeHead(413, { 'content-length': 10 });
    response.end('too large\n', () => {
      if (response.stream) setImmediate(() => response.stream.close(http2.constants.NGHTTP2_NO_ERROR));
    });
  },
};

function serve(request, response) {
  const url = new URL(request.url, 'http://api');
  request.on('error', () => {});
  response.on('error', () => {});
  response.stream?.on('error', () => {});
  const page = pages[url.pathname];
  if (page) page(request, response, url); else response.writeHead(404).end();
}

const ports = {};
for (const [name, server] of Object.entries({ h1: http.createServer(serve), h2: http2.createServer(serve) })) {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  ports[name] = server.address().port;
}
report({ event: 'ready', ...ports });
