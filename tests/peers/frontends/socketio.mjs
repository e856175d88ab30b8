// A Socket.IO server with a page of its own (npm socket.io). Tells its port and each handshake's credentials as JSON.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const tell = (event) => console.log(JSON.stringify(event));
// PREFIX: where the page finds the server.
const page = `<!doctype html><link rel="icon" href="data:,"><script src="/socket.io/socket.io.js"></script><script>
  const socket = io({ path: '${process.env.PREFIX ?? ''}/socket.io' });
  socket.io.engine.on('upgrade', (transport) => {
    socket.emit('hello', 'größer ☺', (echo) => { window.seen = { transport: transport.name, echo }; });
  });
</script>`;
const server = createServer((_, response) => response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page));
new Server(server).on('connection', (socket) => {
  tell({ event: 'connected', authorization: socket.handshake.headers.authorization });
  socket.on('hello', (text, reply) => reply(text));
});
server.listen(0, '127.0.0.1', () => tell({ event: 'ready', port: server.address().port }));
