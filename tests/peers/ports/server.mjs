// An authorization server on port 9400 and an API on port 9401, which holds each request for /held until a connection comes
// to port 9402.
import http from "node:http";

const held = [];

http
  .createServer((_, response) => {
    response.setHeader("content-type", "application/json");
    response.end('{"access_token":"token","token_type":"Bearer","expires_in":300}');
  })
  .listen(9400, "127.0.0.1");

http
  .createServer((request, response) => {
    if (request.url === "/held") held.push(response);
    else response.end("ok\n");
  })
  .listen(9401, "127.0.0.1");

http
  .createServer((_, response) => {
    for (const one of held.splice(0)) one.end("held\n");
    response.end();
  })
  .listen(9402, "127.0.0.1");
