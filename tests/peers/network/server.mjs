// A token endpoint at every address of the machine, on port 9400: for tests whose network comes and goes.
import { createServer } from 'node:http';

createServer((_, response) => {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ access_token: 'made-up', token_type: 'Bearer', expires_in: 3600 }));
}).listen(9400, '0.0.0.0');
