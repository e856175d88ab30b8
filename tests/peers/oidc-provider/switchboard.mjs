// What the tests may ask of the server outside the protocol, and the faults that they order.
//
//   GET    /_ctl            -> {"token_requests": n, "in_flight_max": n, "paths": {"/token": n}, "grants": {"refresh_token":
//                               {"requests": n, "in_flight_max": n}}, "assertions": [{header and claims}], "api": [...], "faults": [...]}
//   POST   /_ctl            {"mode": "status|delay|stall|reset|partial|lose|strip", "status": 503, "ms": 500, "headers": {}, "body": "",
//                            "times": 1, "path": "/token", "when": {"grant_type": "..."}, "members": ["expires_in"]}
//          -> the next `times` requests of that path, and with those form fields, meet the fault (times -1: all, until DELETE).
//             lose: the request is served in full, and the answer never arrives; strip: the answer lacks these members, and
//             with "ms" comes up to so much later, after all is done.
//   DELETE /_ctl            counters to zero, faults gone
//   POST   /_ctl/settings   {"rotate": false, "nonce": true, ...}: what server.mjs says of them
//   POST   /_ctl/clients    a client's metadata, over those of the same name; "public_keys": [{pem, kid, alg}] and
//                           "certificates": [pem] become its jwks
//   POST   /_ctl/trust      {"issuer": "...", "public_keys": [...]}: believed in assertions and subject tokens
//   POST   /_ctl/login      {"client_id": "...", "resource": "...", "jkt": "..."} -> {"refresh_token": "...", "grant_id": "..."}:
//                           what a person's login ends with
//   GET    /_ctl/grants/ID  -> {"alive": true, "refresh_tokens": n, "consumed": n}; DELETE: the person logs out elsewhere
//   POST   /_ctl/sign       {"pem", "alg", "kid", "claims"} -> {"jwt": "..."}
//   POST   /_ctl/jwk        {"pem", "kid", "alg"} -> the private key as a JWK
//   POST   /_ctl/nonce      the API's nonce changes
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignJWT } from 'jose';
import { publicJwks, trusted } from './grants.mjs';
import { Store, grantState, registerClient, endSessions } from './store.mjs';

async function readAll(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

export class Switchboard {
  assertions = [];
  #seen = { token_requests: 0, in_flight_max: 0, paths: {}, grants: {} };
  #inFlight = { all: 0 };
  #faults = [];

  constructor({ provider, settings, api }) { Object.assign(this, { provider, settings, api }); }

  /** The server's own handler, behind this one. */
  before(serve) {
    const protocol = serve;
    return async (request, response) => {
      const path = request.url.split('?')[0];
      try {
        if (path.startsWith('/_ctl')) await this.#control(path.slice('/_ctl'.length), request, response);
        else await this.#pass(path, request, response, protocol);
      } catch (error) {
        console.error(error);
        response.writeHead(500).end(String(error));
      }
    };
  }

  async #pass(path, request, response, protocol) {
    // The RFC 8414 name of the same document.
    if (path === '/.well-known/oauth-authorization-server') request.url = '/.well-known/openid-configuration';
    this.#seen.paths[path] = (this.#seen.paths[path] ?? 0) + 1;
    if (request.method !== 'POST') return protocol(request, response);

    request.body = await readAll(request); // oidc-provider takes a body that was read before
    const form = Object.fromEntries(new URLSearchParams(request.body));
    if (path === '/token') this.#count(form.grant_type, response);
    const fault = this.#faults.find(({ times, path: at = '/token', when = {} }) => (
      times !== 0 && at === path && Object.entries(when).every(([name, value]) => form[name] === value)));
    if (fault && (await this.#misbehave(fault, request, response))) return undefined;
    return protocol(request, response);
  }

  #count(grant, response) {
    const seen = (this.#seen.grants[grant] ??= { requests: 0, in_flight_max: 0 });
    this.#seen.token_requests += 1;
    seen.requests += 1;
    for (const [name, holder] of [['all', this.#seen], [`grant ${grant}`, seen]]) {
      this.#inFlight[name] = (this.#inFlight[name] ?? 0) + 1;
      holder.in_flight_max = Math.max(holder.in_flight_max, this.#inFlight[name]);
      response.once('close', () => { this.#inFlight[name] -= 1; });
    }
  }

  /** True where the fault has answered, or never will. */
  async #misbehave(fault, request, response) {
    fault.times -= 1;
    switch (fault.mode) {
      case 'delay':
        await sleep(fault.ms ?? 500);
        return false;
      case 'strip':
        request.strip = fault.members;
        if (fault.ms) {
          const end = response.end.bind(response);
          response.end = (...rest) => { setTimeout(() => end(...rest), Math.random() * fault.ms); return response; };
        }
        return false;
      case 'lose':
        response.end = () => { request.socket.destroy(); return response; };
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

  async #control(what, request, response) {
    const text = await readAll(request);
    const order = text ? JSON.parse(text) : {};
    const answer = (body) => response.setHeader('content-type', 'application/json').end(JSON.stringify(body ?? {}));
    const grant = /^\/grants\/(.+)$/.exec(what)?.[1];
    if (grant) {
      if (request.method === 'DELETE') {
        await new Store('Grant').destroy(grant);
        await new Store('RefreshToken').revokeByGrantId(grant);
      }
      return answer(grantState(grant));
    }
    switch (what) {
      case '/settings': return answer(Object.assign(this.settings, order));
      case '/clients': return answer(await this.#register(order));
      case '/login': return answer(await this.#logIn(order));
      case '/trust': trusted.set(order.issuer, publicJwks(order.public_keys)); return answer();
      case '/sessions': endSessions(); return answer();
      case '/nonce': this.api.turnNonce(); return answer();
      case '/jwk': {
        const { pem, ...rest } = order;
        return answer({ ...createPrivateKey(pem).export({ format: 'jwk' }), ...rest });
      }
      case '/sign': {
        const { pem, claims, ...header } = order;
        return answer({ jwt: await new SignJWT(claims).setProtectedHeader(header).sign(createPrivateKey(pem)) });
      }
      default:
    }
    if (request.method === 'POST') this.#faults.push({ times: 1, ...order });
    if (request.method === 'DELETE') {
      Object.assign(this.#seen, { token_requests: 0, in_flight_max: 0, paths: {}, grants: {} });
      this.assertions.length = 0;
      this.api.seen.length = 0;
      this.#faults = [];
    }
    return answer({ ...this.#seen, assertions: this.assertions, api: this.api.seen, faults: this.#faults });
  }

  async #register({ public_keys: keys, certificates, ...metadata }) {
    const jwks = certificates
      ? certificates.map((pem) => {
        const certificate = new X509Certificate(pem);
        return { ...certificate.publicKey.export({ format: 'jwk' }), x5c: [certificate.raw.toString('base64')] };
      })
      : keys && publicJwks(keys);
    await registerClient({ redirect_uris: [], response_types: [], ...metadata, ...(jwks && { jwks: { keys: jwks } }) });
    if (!(await this.provider.Client.find(metadata.client_id))) throw new Error('the client is not there');
  }

  async #logIn({ client_id: clientId, resource = 'https://api.example.test/', jkt, account = 'alice' }) {
    const scope = 'api:read api:write';
    const client = await this.provider.Client.find(clientId);
    const grant = new this.provider.Grant({ accountId: account, clientId });
    grant.addOIDCScope('offline_access');
    grant.addResourceScope(resource, scope);
    const grantId = await grant.save();
    const token = new this.provider.RefreshToken({
      accountId: account, client, grantId, gty: 'authorization_code', resource, scope: `offline_access ${scope}`,
      authTime: Math.floor(Date.now() / 1000), ...(jkt && { jkt }),
    });
    return { refresh_token: await token.save(), grant_id: grantId };
  }
}
