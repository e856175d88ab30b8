// An authorization server and an API in one, over TLS as the environment says: CERTIFICATE, KEY, PROTOCOL (h1, or h2: nothing
// but HTTP/2) and TLS (options of Node's tls module, in JSON). Tells its port, and the protocol of each request.
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import https from 'node:https';

const { CERTIFICATE, KEY, PROTOCOL = 'h1', TLS = '{}' } = process.env;
const tell = (event) => console.log(JSON.stringify(event));
const options = { cert: readFileSync(CERTIFICATE), key: readFileSync(KEY), ...JSON.parse(TLS) };

const respond = (request, response) => {
  request.resume();
  request.on('end', () => {
    tell({ event: 'request', path: request.url, version: request.httpVersion });
    if (request.url !== '/token') return response.end('hello\n');
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end('{"access_token":"token-0","token_type":"Bearer","expires_in":300}');
  });
};

const server = PROTOCOL === 'h2' ? http2.createSecureServer(options, respond) : https.createServer(options, respond);
server.listen(0, '127.0.0.1', () => tell({ event: 'ready', port: server.address().port }));
