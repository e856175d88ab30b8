// An API of HTTP/2 in the clear that counts its connections, in all and at a time, the requests that came by each, and the most
// at a time on one. Each response says all of it. STREAMS is what its SETTINGS allow on one connection. After CLOSE_AFTER requests
// on one it sends GOAWAY, and closes it once they have their responses. /slow takes a second.
import http2 from "node:http2";

const seen = { total: 0, now: 0, most: 0, streams: 0, requests: [] };
const closeAfter = Number(process.env.CLOSE_AFTER);
const server = http2.createServer({ settings: { maxConcurrentStreams: Number(process.env.STREAMS) } });

server.on("session", (session) => {
  session.number = seen.total++;
  session.streams = 0;
  seen.requests.push(0);
  seen.most = Math.max(seen.most, ++seen.now);
  session.on("close", () => seen.now--);
});

server.on("stream", (stream, head) => {
  const session = stream.session;
  if (++seen.requests[session.number] === closeAfter) session.close();
  seen.streams = Math.max(seen.streams, ++session.streams);
  stream.on("close", () => session.streams--);
  stream.on("error", () => {});
  setTimeout(() => {
    if (stream.destroyed) return;
    stream.respond({ ":status": 200, "content-type": "application/json" });
    stream.end(JSON.stringify(seen));
  }, head[":path"] === "/slow" ? 1000 : 20);
});

server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ event: "ready", port: server.address().port }));
});
