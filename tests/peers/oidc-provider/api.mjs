// A protected API that takes nothing on trust: it verifies each token's signature or asks the server's memory, and each
// proof of possession (RFC 8705 section 3, RFC 9449 section 7.1), with jose and node:crypto.
//
// It answers what it saw in JSON, {method, path, body, scheme, token, claims, proof, certificate}; or 401 with the reason.
import { EmbeddedJWK, calculateJwkThumbprint, createLocalJWKSet, jwtVerify } from 'jose';
import { createHash, randomUUID } from 'node:crypto';

const sha256 = (data) => createHash('sha256').update(data).digest('base64url');

export function protectedApi({ issuer, ownKeys, opaque, settings }) {
  const proofs = new Set();
  const seen = [];
  let nonce = randomUUID();
  const before = []; // what was announced before is still good for a while
  let asked = 0;

  class Refused extends Error {
    constructor(scheme, error, reason) { super(reason); Object.assign(this, { scheme, error }); }
  }

  async function claimsOf(token, scheme) {
    if (token.split('.').length !== 3) {
      const claims = await opaque(token);
      if (!claims) throw new Refused(scheme, 'invalid_token', 'nobody knows this token');
      return claims;
    }
    try {
      // The server counts in whole seconds: `exp` may come up to a second before its own `expires_in` is over.
      const options = { issuer, clockTolerance: 1 };
      return (await jwtVerify(token, createLocalJWKSet({ keys: await ownKeys() }), options)).payload;
    } catch (error) {
      throw new Refused(scheme, 'invalid_token', `the token: ${error.code}`);
    }
  }

  async function proofOf(request, path, token, claims) {
    const jwts = request.rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'dpop').length;
    const refuse = (reason) => { throw new Refused('DPoP', 'invalid_dpop_proof', reason); };
    if (jwts !== 1) refuse(`${jwts} DPoP fields`);
    let proof;
    try {
      proof = await jwtVerify(request.headers.dpop, EmbeddedJWK, {
        typ: 'dpop+jwt', algorithms: ['ES256', 'RS256', 'PS256', 'EdDSA', 'Ed25519'], maxTokenAge: 60, clockTolerance: 5,
      });
    } catch (error) {
      refuse(`the proof: ${error.code} ${error.message}`);
    }
    const { payload, protectedHeader: { jwk } } = proof;
    if ('d' in jwk) refuse('the proof shows the private key');
    if (payload.htm !== request.method) refuse(`htm is ${payload.htm}`);
    const url = `${request.socket.encrypted ? 'https' : 'http'}://${request.headers.host}${path}`;
    if (payload.htu !== url) refuse(`htu is ${payload.htu}, and this is ${url}`);
    if (payload.ath !== sha256(token)) refuse('ath is of another token');
    if (await calculateJwkThumbprint(jwk) !== claims.cnf?.jkt) refuse('the token is bound to another key');
    if (proofs.has(payload.jti)) refuse('this proof was used before');
    proofs.add(payload.jti);
    if (settings.api_nonce && (!payload.nonce || ![nonce, ...before].includes(payload.nonce))) throw new Refused('DPoP', 'use_dpop_nonce', 'it takes our nonce');
    return proof;
  }

  async function judge(request, path) {
    const given = request.rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'authorization').length;
    if (given !== 1) throw new Refused('Bearer', 'invalid_request', `${given} Authorization fields`);
    const [scheme, token] = request.headers.authorization.split(' ');
    const claims = await claimsOf(token, scheme);
    const bound = claims.cnf ?? {};
    if ((scheme === 'DPoP') !== !!bound.jkt) throw new Refused(scheme, 'invalid_token', 'scheme and token differ');
    const certificate = request.socket.encrypted ? request.socket.getPeerX509Certificate?.() : undefined;
    const thumbprint = certificate && sha256(certificate.raw);
    if (bound['x5t#S256'] && bound['x5t#S256'] !== thumbprint) {
      throw new Refused(scheme, 'invalid_token', `the token is bound to another certificate than ${thumbprint}`);
    }
    if (settings.api_certificate && !thumbprint) throw new Refused(scheme, 'invalid_request', 'no certificate');
    const proof = scheme === 'DPoP' ? await proofOf(request, path, token, claims) : undefined;
    return { scheme, token, claims, proof: proof && { ...proof.protectedHeader, ...proof.payload }, certificate: thumbprint };
  }

  async function handle(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const path = request.url.split('?')[0];
    const told = { method: request.method, path: request.url, body: Buffer.concat(parts).toString() };
    asked += 1;
    // A nonce is good for a while, then the next one is announced on an answer (RFC 9449 section 8.2).
    response.setHeader('content-type', 'application/json');
    try {
      Object.assign(told, await judge(request, path));
      if (settings.api_nonce && asked % 5 === 0) {
        before.unshift(nonce);
        before.length = Math.min(before.length, 8);
        nonce = randomUUID();
        response.setHeader('dpop-nonce', nonce);
      }
      seen.push({ status: 200, jti: told.proof?.jti, sub: told.claims.sub });
      response.end(JSON.stringify(told));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      seen.push({ status: 401, error: error.error, reason: error.message });
      if (settings.api_nonce) response.setHeader('dpop-nonce', nonce);
      response.writeHead(401, { 'www-authenticate': `${error.scheme} error="${error.error}"` });
      response.end(JSON.stringify({ ...told, error: error.error, reason: error.message }));
    }
  }

  return { handle, seen, turnNonce: () => { before.length = 0; nonce = randomUUID(); } };
}
