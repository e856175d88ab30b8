// client.mjs HOW URL MEBIBYTES COUNT: uploads so much, so often, by `fetch` or `http`. Tells what came of each upload, a JSON
// object a line.
import http from 'node:http';

const [how, url, mebibytes, count] = process.argv.slice(2);
const body = Buffer.alloc(Number(mebibytes) << 20);
const tell = (report) => console.log(JSON.stringify(report));

const ways = {
  fetch: async () => {
    const response = await fetch(url, { method: 'POST', body });
    return { status: response.status, bytes: (await response.arrayBuffer()).byteLength };
  },
  http: () => new Promise((resolve, reject) => {
    const request = http.request(url, { method: 'POST', headers: { 'content-length': body.length } });
    request.on('error', reject);
    request.on('response', async (response) => {
      let bytes = 0;
      for await (const piece of response) bytes += piece.length;
      resolve({ status: response.statusCode, bytes });
    });
    request.end(body);
  }),
};

for (let n = 0; n < Number(count); n += 1) {
  tell(await ways[how]().catch((error) => ({ error: String(error.cause ?? error) })));
}
