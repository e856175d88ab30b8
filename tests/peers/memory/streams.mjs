// Applications that speak HTTP/2 and leave their downloads unread, while another request of the same connection waits for
// the API, and well-behaved ones beside them.
//
//     node streams.mjs ADDRESS CLIENTS DOWNLOADS SECONDS
//
// Each of CLIENTS connections opens DOWNLOADS endless downloads, reads none of them, and sends one request whose response
// comes near the end. Meanwhile a connection of its own sends a GET every 100 ms. A JSON object says what came of all.
import http2 from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';

const [address, clients, downloads, seconds] = process.argv.slice(2);
const WINDOW = 65_535;
const end = Date.now() + Number(seconds) * 1000;
const done = { event: 'done', downloads: {}, waiting: {}, well_behaved: {}, slowest: 0, connections_lost: 0 };
const count = (counts, outcome) => { counts[outcome] = (counts[outcome] ?? 0) + 1; };

const connect = () => new Promise((resolve, reject) => {
  const session = http2.connect(`http://${address}`);
  session.once('error', reject);
  session.once('connect', () => {
    session.off('error', reject);
    session.on('error', () => {});
    resolve(session);
  });
});

// The response's status once its body has ended; else how the stream ended.
const get = (session, path) => new Promise((resolve) => {
  const stream = session.request({ ':path': path });
  let status;
  stream.on('response', (head) => { status = head[':status']; });
  stream.on('error', () => {});
  stream.on('end', () => resolve(status));
  stream.on('close', () => resolve(`reset ${stream.rstCode}`));
  stream.resume();
});

const unread = (session) => {
  const stream = session.request({ ':path': '/endless' });
  let status = 'none';
  stream.on('response', (head) => { status = head[':status']; });
  stream.on('error', () => {});
  stream.on('close', () => count(done.downloads, `${status} reset ${stream.rstCode}`));
};

const stall = async () => {
  const session = await connect();
  // So that no stream holds up another by the connection's window.
  session.setLocalWindowSize(WINDOW * (Number(downloads) + 2));
  session.on('close', () => { done.connections_lost += Date.now() < end; });
  for (let at = 0; at < Number(downloads); at += 1) unread(session);
  count(done.waiting, await get(session, `/late?ms=${Number(seconds) * 1000 - 2000}`));
  await sleep(end - Date.now());
  session.destroy();
};

const behave = async () => {
  const session = await connect();
  while (Date.now() < end) {
    const begun = Date.now();
    count(done.well_behaved, await get(session, '/'));
    done.slowest = Math.max(done.slowest, Date.now() - begun);
    await sleep(100);
  }
  session.destroy();
};

await Promise.all([behave(), ...Array.from({ length: Number(clients) }, stall)]);
console.log(JSON.stringify(done));
process.exit();
