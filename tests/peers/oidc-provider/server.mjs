// The authorization server of the integration tests: npm oidc-provider, which nobody here wrote. Loopback only.
//
// Environment: PORT (required), AT_TTL (seconds an access token lives, 20), TLS_CERT and TLS_KEY (PEM files: https).
// It prints `ready ISSUER` once it listens, and ends on SIGTERM. State is in memory: a restart forgets all tokens.
//
// Tokens are JWTs for https://api.example.test/ (the default resource), opaque for https://api.example.test/opaque.
//
// /_ctl is the switchboard of the tests, outside the protocol:
//   GET    -> {"token_requests": n, "in_flight_max": n, "paths": {"/token": n, ...}, "faults": [...]}
//   POST   {"mode": "status|delay|stall|reset|partial", "status": 503, "ms": 500, "headers": {}, "body": "", "times": 1}
//          -> the next `times` token requests meet that fault (times -1: all of them, until DELETE)
//   DELETE -> counters to zero, faults gone
import { createServer as createPlain } from 'node:http';
import { createServer as createTls } from 'node:https';
import { randomBytes, webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

// What Debian 12's Node.js 18 lacks of what oidc-provider calls.
globalThis.crypto ??= webcrypto;
URL.parse ??= (text, base) => { try { return new URL(text, base); } catch { return null; } };
const { Provider, errors } = await import('oidc-provider');

const HOST = '127.0.0.1';
const port = Number(process.env.PORT);
const lifetime = Number(process.env.AT_TTL ?? 20);
const { TLS_CERT: certFile, TLS_KEY: keyFile } = process.env;
const DEFAULT_RESOURCE = 'https://api.example.test/';
const SECRET = 'a-test-secret-of-at-least-32-bytes-000000';

const machine = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const clients = [
  { client_id: 'orders', client_secret: SECRET, token_endpoint_auth_method: 'client_secret_basic', ...machine },
  { client_id: 'orders-post', client_secret: SECRET, token_endpoint_auth_method: 'client_secret_post', ...machine },
  // RFC 6749 section 2.3.1: both halves are form-encoded before they become Basic credentials.
  { client_id: 'odd:id +/%', client_secret: 'p w:+/%&="-of-at-least-32-bytes-0000', token_endpoint_auth_method: 'client_secret_basic', ...machine },
  { client_id: 'odd-post', client_secret: 'p w:+/%&="-of-at-least-32-bytes-0000', token_endpoint_auth_method: 'client_secret_post', ...machine },
];

const provider = new Provider(`${certFile ? 'https' : 'http'}://${HOST}:${port}`, {
  clients,
  clientAuthMethods: ['client_secret_basic', 'client_secret_post'],
  cookies: { keys: [randomBytes(16).toString('hex')] },
  scopes: ['api:read', 'api:write'],
  ttl: { ClientCredentials: lifetime },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => DEFAULT_RESOURCE,
      getResourceServerInfo: (_ctx, resource) => {
        if (!/^https:\/\/api\d*\.example\.test\//.test(resource)) throw new errors.InvalidTarget();
        return {
          scope: 'api:read api:write',
          audience: resource,
          accessTokenTTL: lifetime,
          accessTokenFormat: resource.endsWith('/opaque') ? 'opaque' : 'jwt',
        };
      },
    },
  },
});

const seen = { token_requests: 0, in_flight_max: 0, paths: {} };
let inFlight = 0;
let faults = [];

async function readAll(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

async function switchboard(request, response) {
  if (request.method === 'POST') faults.push({ times: 1, ...JSON.parse(await readAll(request)) });
  if (request.method === 'DELETE') {
    Object.assign(seen, { token_requests: 0, in_flight_max: 0, paths: {} });
    faults = [];
  }
  response.setHeader('content-type', 'application/json').end(JSON.stringify({ ...seen, faults }));
}

/** True where the fault has answered, or never will. */
async function misbehave(fault, request, response) {
  fault.times -= 1;
  switch (fault.mode) {
    case 'delay':
      await sleep(fault.ms ?? 500);
      return false;
    case 'stall':
      return true;
    case 'reset':
      request.socket.resetAndDestroy();
      return true;
    case 'partial':
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': 500 }).write('{"access_token":"x');
      await sleep(50);
      request.socket.destroy();
      return true;
    default:
      response.writeHead(fault.status ?? 503, { 'content-type': 'application/json', ...fault.headers });
      response.end(fault.body ?? '{"error":"temporarily_unavailable"}');
      return true;
  }
}

const protocol = provider.callback();
async function handle(request, response) {
  const path = request.url.split('?')[0];
  if (path === '/_ctl') return switchboard(request, response);
  // The RFC 8414 name of the same document.
  if (path === '/.well-known/oauth-authorization-server') request.url = '/.well-known/openid-configuration';
  seen.paths[path] = (seen.paths[path] ?? 0) + 1;
  if (path !== '/token') return protocol(request, response);

  seen.token_requests += 1;
  inFlight += 1;
  seen.in_flight_max = Math.max(seen.in_flight_max, inFlight);
  response.once('close', () => { inFlight -= 1; });
  request.body = await readAll(request); // oidc-provider takes a body that was read before
  const fault = faults.find(({ times }) => times !== 0);
  if (fault && (await misbehave(fault, request, response))) return undefined;
  return protocol(request, response);
}

const server = certFile
  ? createTls({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, handle)
  : createPlain(handle);
server.listen(port, HOST, () => console.log(`ready ${provider.issuer}`));
process.on('SIGTERM', () => process.exit(0));
