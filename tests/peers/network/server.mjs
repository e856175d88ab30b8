// A token endpoint at every address of the machine, on port 9400, and an API on 9401 that says over which of its connections
// it was asked: for tests whose network comes and goes.
import { createServer } from 'node:http';

createServer((_, response) => {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ access_token: 'made-up', token_type: 'Bearer', expires_in: 3600 }));
}).listen(9400, '0.0.0.0');

let connections = 0;
const api = createServer((request, response) => response.end(`connection ${request.socket.number}\n`));
api.on('connection', (socket) => { connections += 1; socket.number = connections; });
api.listen(9401, '127.0.0.1');
