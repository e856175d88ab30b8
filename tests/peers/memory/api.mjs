// Two APIs that cost a proxy memory: slow ones, endless ones, and ones that take nothing. HTTP/1.1 on one port, HTTP/2
// without TLS on another; the ports are printed as a JSON object.
import http from 'node:http';
import http2 from 'node:http2';

const PART = Buffer.alloc(16 * 1024, 'x');
// As large as the default of max_response_header_size allows.
const LARGE = Object.fromEntries(Array.from({ length: 58 }, (_, at) => [`x-${at}`, 'a'.repeat(1000)]));

// How HTTP/2 streams of endless responses ended: their codes, each with a count.
const resets = {};

const serve = (request, response) => {
  const { pathname: path, searchParams } = new URL(request.url, 'http://api');
  response.on('error', () => {});
  request.on('error', () => {});
  if (path === '/endless') {
    // As fast as it is taken.
    const write = () => {
      while (!response.destroyed && response.write(PART));
    };
    response.on('drain', write);
    response.stream?.on('close', () => {
      const code = response.stream?.rstCode ?? request.stream.rstCode;
      resets[code] = (resets[code] ?? 0) + 1;
    });
    response.writeHead(200, { 'content-type': 'application/octet-stream' });
    write();
  } else if (path === '/never') {
    // No byte of the request is read, and no response is sent.
    request.pause();
  } else if (path === '/slow') {
    request.resume();
    request.on('end', () => setTimeout(() => response.end('slow'), 3000));
  } else if (path === '/large-head') {
    response.writeHead(200, LARGE);
    response.end('ok');
  } else if (path === '/large-trailers') {
    response.writeHead(200, response.stream ? {} : { trailer: 'x-0' });
    response.write('ok');
    response.addTrailers(LARGE);
    response.end();
  } else if (path === '/late') {
    request.resume();
    setTimeout(() => response.end('late'), Number(searchParams.get('ms')));
  } else if (path === '/resets') {
    response.end(JSON.stringify(resets));
  } else {
    request.resume();
    request.on('end', () => response.end('ok'));
  }
};

const one = http.createServer({ keepAliveTimeout: 30_000, requestTimeout: 0 }, serve);
const two = http2.createServer({ settings: { maxConcurrentStreams: 1000 } }, serve);
two.on('sessionError', () => {});
one.listen({ port: 0, host: '127.0.0.1', backlog: 8192 }, () =>
  two.listen({ port: 0, host: '127.0.0.1', backlog: 8192 }, () =>
    console.log(JSON.stringify({ event: 'ready', one: one.address().port, two: two.address().port }))));
