// An origin that writes a line of JSON for each thing that it saw. Usage: node recorder.mjs PORT
import http from "node:http";
import fs from "node:fs";

const say = (what) => fs.writeSync(1, JSON.stringify(what) + "\n");
// Node reads names and values as Latin-1; the test compares them as UTF-8.
const utf8 = (text) => Buffer.from(text, "latin1").toString("utf8");

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("aborted", () => say({ aborted: true }));
  request.on("end", () => {
    const raw = request.rawHeaders.map(utf8);
    const fields = [];
    for (let at = 0; at < raw.length; at += 2) fields.push([raw[at], raw[at + 1]]);
    say({ method: request.method, target: utf8(request.url), fields, body: Buffer.concat(parts).toString("utf8") });
    response.end("ok");
  });
});
server.on("clientError", (error, socket) => {
  // A connection that ended in the middle of a request is told of by `aborted`.
  if (!["ECONNRESET", "EPIPE", "HPE_INVALID_EOF_STATE"].includes(error.code)) say({ malformed: error.code });
  if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
});
for (const event of ["connect", "upgrade"]) {
  server.on(event, (request, socket) => {
    say({ malformed: event });
    socket.destroy();
  });
}
server.keepAliveTimeout = 300000;
server.headersTimeout = 0;
server.requestTimeout = 0;
server.listen(Number(process.argv[2]), "127.0.0.1");
