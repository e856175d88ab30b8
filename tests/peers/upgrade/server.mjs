// An API that switches to SPDY/3.1, as Kubernetes' does for kubectl, or to tcp, as Docker's does: then it sends back what it gets.
// /refuse answers as to any request, /required with 426, /other switches to something else, /last says its last words and hangs
// up. It tells of each request and of each end, a JSON object a line.
import http from 'node:http';

const tell = (report) => console.log(JSON.stringify(report));
const server = http.createServer(async (request, response) => {
  let body = '';
  for await (const piece of request) body += piece;
  tell({ event: 'plain', url: request.url, fields: request.headers, body });
  if (request.url === '/required') response.writeHead(426, { connection: 'upgrade', upgrade: 'SPDY/3.1, h2c' });
  response.end('plain\n');
});

server.on('upgrade', async (request, socket, first) => {
  let body = first.toString();
  const length = Number(request.headers['content-length'] ?? 0);
  while (body.length < length) {
    body += await new Promise((resolve) => { socket.once('data', (piece) => resolve(piece.toString())); });
  }
  tell({ event: 'began', method: request.method, url: request.url, fields: request.headers, body });
  socket.on('error', () => {});
  socket.on('close', () => tell({ event: 'ended', url: request.url }));
  if (request.url === '/refuse') {
    socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 3\r\nX-Why: because\r\n\r\nno\n');
    return;
  }
  const protocol = request.url === '/other' ? 'something/1' : request.headers.upgrade.split(',')[0];
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n`
    + 'X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nglued');
  if (request.url === '/last') socket.end('last words', () => socket.destroy());
  else socket.on('data', (piece) => socket.write(piece)).on('end', () => socket.end());
});
server.listen(0, '127.0.0.1', () => tell({ event: 'listening', port: server.address().port }));
