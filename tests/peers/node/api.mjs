// A protected API on Node.js's own servers: HTTP/1.1 and HTTP/2, each in the clear and over TLS. It demands a bearer
// token. Environment: FOLDER (for uploads), CERTIFICATE, KEY, and KEEP_ALIVE (ms that an idle connection is kept).
// Tells its ports, a JSON object a line.
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, readFileSync, statSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import path from 'node:path';
import { pipeline } from 'node:stream';

const { FOLDER, CERTIFICATE, KEY, KEEP_ALIVE = '75000' } = process.env;
const tell = (event) => console.log(JSON.stringify(event));
let connections = 0;

const digest = (request) => new Promise((resolve, reject) => {
  const hash = createHash('sha256');
  request.on('data', (piece) => hash.update(piece));
  request.on('end', () => resolve(hash.digest('hex')));
  request.on('error', reject);
});

const pages = {
  '/hello': (request, response) => {
    const text = `${request.method} ${request.url}\n`;
    request.resume();
    response.setHeader('content-length', text.length);
    response.end(text);
  },
  '/empty': (request, response) => response.writeHead(204).end(),
  '/unchanged': (request, response) => response.writeHead(304).end(),
  '/unchanged-length': (request, response) => response.writeHead(304, { 'content-length': 7 }).end(),
  '/small': (request, response) => response.writeHead(413).end('too large\n'),
  '/chunked': (request, response) => {
    let piece = 0;
    const timer = setInterval(() => {
      response.write(`piece ${piece}\n`);
      if (++piece === 3) { clearInterval(timer); response.end(); }
    }, 20);
  },
  '/slow': (request, response) => setTimeout(() => response.end('slow\n'), 500),
  '/hints': (request, response) => {
    response.writeEarlyHints({ link: '</style.css>; rel=preload; as=style', 'x-trace': 'a' });
    // The hints must arrive while this is still to come: whoever has them asks for the rest by `/go-on`.
    goOn = () => response.end('after hints\n');
  },
  '/go-on': (request, response) => { goOn(); response.end(); },
  '/trailers': async (request, response) => {
    const seen = await digest(request);
    response.setHeader('trailer', 'x-sum');
    response.write(JSON.stringify({ sha256: seen, trailers: request.trailers }));
    response.addTrailers({ 'x-sum': seen });
    response.end();
  },
};
let goOn = () => {};

function file(request, response) {
  const name = path.join(FOLDER, path.basename(request.url));
  if (request.method === 'PUT') {
    pipeline(request, createWriteStream(name), (error) => {
      if (error) response.destroy?.(); else response.writeHead(201).end();
    });
    return;
  }
  response.setHeader('content-length', statSync(name).size);
  pipeline(createReadStream(name), response, () => {});
}

function serve(request, response) {
  response.setHeader('saw-authorization', request.headers.authorization ?? '-');
  response.setHeader('saw-protocol', `HTTP/${request.httpVersion}`);
  const connection = request.stream?.session?.socket ?? request.socket;
  response.setHeader('saw-connection', String(request.stream?.session?.number ?? connection.number));
  if (!/^Bearer token-\d+$/.test(request.headers.authorization ?? '')) {
    response.writeHead(401, { 'www-authenticate': 'Bearer' }).end();
    return;
  }
  const page = request.url.startsWith('/files/') ? file : pages[request.url.split('?')[0]];
  if (page) page(request, response); else response.writeHead(404).end();
}

const pair = { cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) };
const servers = {
  h1: http.createServer(serve),
  h1_tls: https.createServer(pair, serve),
  h2: http2.createServer(serve),
  h2_tls: http2.createSecureServer({ ...pair, allowHTTP1: true }, serve),
};
const ports = {};
for (const [name, server] of Object.entries(servers)) {
  server.keepAliveTimeout = Number(KEEP_ALIVE);
  for (const event of ['connection', 'secureConnection', 'session']) {
    server.on(event, (connection) => { connection.number = connections++; });
  }
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  ports[name] = server.address().port;
}
tell({ event: 'ready', ...ports });
