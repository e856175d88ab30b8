// An API that sends events. It demands a bearer token, sends an event only when the one before has been acknowledged
// (POST /_ack?id=N, without a token, past the proxy), and hangs up after every tenth. Tells what happens, a JSON object
// a line.
import http from 'node:http';

const tell = (event) => console.log(JSON.stringify(event));
let acknowledged = () => {};

http.createServer((request, response) => {
  const url = new URL(request.url, 'http://api');
  if (url.pathname === '/_ack') {
    acknowledged(Number(url.searchParams.get('id')));
    response.end();
    return;
  }
  if (!/^Bearer token-\d+$/.test(request.headers.authorization ?? '')) {
    response.writeHead(401).end();
    return;
  }
  const last = request.headers['last-event-id'];
  tell({ event: 'opened', last: last ?? null, accept: request.headers.accept });
  let [whole, next] = [false, last === undefined ? 0 : Number(last) + 1];
  // As such APIs do, so that an end of the other side is found out: HTTP/1.1 has no other sign of it than this, as
  // who only closes the writing side still listens.
  const beat = setInterval(() => response.write(': beat\n\n'), 200);
  response.on('close', () => { clearInterval(beat); tell({ event: 'closed', whole }); });
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const send = () => response.write(`id: ${next}\ndata: ${Date.now()}\n\n`);
  acknowledged = (id) => {
    if (id !== next) return;
    next += 1;
    if (next % 10 === 0 && next < 20) { whole = true; response.end(); return; }
    setTimeout(send, 100);
  };
  response.write('retry: 50\n\n');
  send();
}).listen(0, '127.0.0.1', function () { tell({ event: 'ready', port: this.address().port }); });
