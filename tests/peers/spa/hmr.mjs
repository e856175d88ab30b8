// A development server's WebSocket, in a few lines: it accepts any, and says what it heard. Tells its port as JSON.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

const server = createServer((_, response) => response.writeHead(404).end());
server.on('upgrade', (request, socket) => {
  if (request.headers.authorization) { socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'); return; }
  const accept = createHash('sha1')
    .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.on('data', (frame) => {
    if ((frame[0] & 15) !== 1) return; // a short text, which a browser masks
    const [length, mask] = [frame[1] & 127, frame.subarray(2, 6)];
    const text = frame.subarray(6, 6 + length).map((byte, index) => byte ^ mask[index % 4]);
    socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
  socket.on('error', () => {});
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ event: 'ready', port: server.address().port })));
