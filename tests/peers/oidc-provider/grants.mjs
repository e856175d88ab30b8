// The grants that oidc-provider leaves to its users: password, JWT bearer (RFC 7523) and token exchange (RFC 8693).
import { createLocalJWKSet, decodeJwt, jwtVerify } from 'jose';
import { createPublicKey } from 'node:crypto';
import { errors } from 'oidc-provider';

const BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const TYPE = 'urn:ietf:params:oauth:token-type:';
const USERS = { alice: 'correct horse & battery=+% stäple' };

/** issuer -> public JWKs: whom this server believes besides itself. */
export const trusted = new Map();

/** token -> claims of its own, for oidc-provider's extraTokenClaims. */
export const actors = new WeakMap();

/** Public keys in PEM (private ones are stripped) as JWKs. */
export const publicJwks = (keys) => keys.map(({ pem, kid, alg }) => (
  { ...createPublicKey(pem).export({ format: 'jwk' }), use: 'sig', ...(kid && { kid }), ...(alg && { alg }) }));

export function registerGrants(provider, { ownKeys, resourceServer, lifetime }) {
  const spent = new Set();

  async function issue(ctx, accountId, scope, act) {
    const { params, client } = ctx.oidc;
    const [resource] = [params.resource ?? params.audience].flat();
    const token = new provider.AccessToken({ client, accountId, gty: params.grant_type, scope, expiresIn: lifetime() });
    if (act) actors.set(token, { act });
    token.resourceServer = new provider.ResourceServer(...resourceServer(resource));
    return {
      access_token: await token.save(), token_type: token.tokenType, expires_in: lifetime(), scope: token.scope,
    };
  }

  /** The claims of a JWT by this server or by somebody trusted. */
  async function believe(what, jwt, options = {}) {
    let issuer;
    try { issuer = decodeJwt(jwt).iss; } catch { throw new errors.InvalidGrant(`${what} is no JWT`); }
    const keys = issuer === provider.issuer ? await ownKeys() : trusted.get(issuer);
    if (!keys) throw new errors.InvalidGrant(`${what} is of nobody known: ${issuer}`);
    try {
      return await jwtVerify(jwt, createLocalJWKSet({ keys }), { issuer, ...options });
    } catch (error) {
      throw new errors.InvalidGrant(`${what}: ${error.code} ${error.message}`);
    }
  }

  provider.registerGrantType('password', async (ctx) => {
    const { username, password, scope } = ctx.oidc.params;
    if (!password || USERS[username] !== password) throw new errors.InvalidGrant('no such user, or another password');
    ctx.body = await issue(ctx, username, scope);
  }, ['username', 'password', 'scope', 'audience', 'resource'], ['resource']);

  provider.registerGrantType(BEARER, async (ctx) => {
    const { assertion, scope } = ctx.oidc.params;
    const { payload } = await believe('assertion', assertion, {
      audience: [provider.issuer, `${provider.issuer}/token`], requiredClaims: ['exp', 'aud'], maxTokenAge: '1h',
    });
    if (payload.jti && spent.has(payload.jti)) throw new errors.InvalidGrant('this assertion was used before');
    spent.add(payload.jti);
    // Google's assertions carry the scope as a claim, and a subject only where they act for somebody.
    ctx.body = await issue(ctx, payload.sub ?? payload.iss, payload.scope ?? scope);
  }, ['assertion', 'scope', 'audience', 'resource'], ['resource']);

  provider.registerGrantType(EXCHANGE, async (ctx) => {
    const { params, client } = ctx.oidc;
    for (const name of ['subject_token', 'subject_token_type']) {
      if (!params[name]) throw new errors.InvalidRequest(`no ${name}`);
    }
    if (!!params.actor_token !== !!params.actor_token_type) throw new errors.InvalidRequest('half an actor');
    for (const name of ['subject_token_type', 'actor_token_type', 'requested_token_type']) {
      if (params[name] && ![`${TYPE}access_token`, `${TYPE}jwt`].includes(params[name])) {
        throw new errors.InvalidRequest(`${name} is not supported: ${params[name]}`);
      }
    }
    const { payload: subject } = await believe('subject_token', params.subject_token);
    const actor = params.actor_token && (await believe('actor_token', params.actor_token)).payload;
    const body = await issue(ctx, subject.sub, params.scope ?? subject.scope, { sub: actor?.sub ?? client.clientId });
    ctx.body = { ...body, issued_token_type: params.requested_token_type ?? `${TYPE}access_token` };
  }, [
    'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'audience', 'scope', 'resource',
  ], ['resource']);
}
