// The authorization server of the integration tests: npm oidc-provider, which nobody here wrote. Loopback only.
//
// Environment: PORT (required); AT_TTL (seconds an access token lives, 20); TLS_CERT and TLS_KEY (PEM files: https).
// Where MTLS_PORT, API_PORT, API_TLS_PORT and PKI (a folder with ca.pem, server.pem, server.key) are given, it also listens
// there: itself again over TLS, asking for a client certificate (RFC 8705, published as mtls_endpoint_aliases); and a
// protected API (api.mjs), in the clear and over TLS.
// WEB_MESSAGE=1: answers may come as a message to the window that holds the frame (response_mode=web_message).
// It prints `ready ISSUER` once it listens, and ends on SIGTERM. State is in memory: a restart forgets all tokens.
//
// Tokens are JWTs for https://api.example.test/ (the default resource), opaque for https://api.example.test/opaque.
//
// /_ctl is the switchboard of the tests, outside the protocol; see switchboard.mjs.
import './node18.mjs';
import { createServer as createPlain } from 'node:http';
import { createServer as createTls } from 'node:https';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

const { Provider, errors } = await import('oidc-provider');
const { actors, registerGrants } = await import('./grants.mjs');
const { protectedApi } = await import('./api.mjs');
const { Switchboard } = await import('./switchboard.mjs');
const { Store } = await import('./store.mjs');

const HOST = '127.0.0.1';
const port = Number(process.env.PORT);
const settings = {
  lifetime: Number(process.env.AT_TTL ?? 20),
  rotate: true, // each refresh brings a new refresh token, and an old one that is used again ends the whole login
  nonce: false, // DPoP proofs at the token endpoint need a nonce
  api_nonce: false, // and at the API
  api_certificate: false, // the API demands a client certificate
  metadata: {}, // members of the discovery document that differ
};
const { TLS_CERT: certFile, TLS_KEY: keyFile, PKI: pki } = process.env;
const issuer = `${certFile ? 'https' : 'http'}://${HOST}:${port}`;
const DEFAULT_RESOURCE = 'https://api.example.test/';
const SECRET = 'a-test-secret-of-at-least-32-bytes-000000';

const machine = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const clients = [
  { client_id: 'orders', client_secret: SECRET, token_endpoint_auth_method: 'client_secret_basic', ...machine },
  { client_id: 'orders-post', client_secret: SECRET, token_endpoint_auth_method: 'client_secret_post', ...machine },
  // RFC 6749 section 2.3.1: both halves are form-encoded before they become Basic credentials.
  { client_id: 'odd:id +/%', client_secret: 'p w:+/%&="-of-at-least-32-bytes-0000', token_endpoint_auth_method: 'client_secret_basic', ...machine },
  // A program on a person's machine: any port of these loopback addresses will do (RFC 8252 section 7.3).
  {
    client_id: 'laptop', token_endpoint_auth_method: 'none', application_type: 'native', response_types: ['code'],
    redirect_uris: ['http://127.0.0.1/callback', 'http://127.0.0.1/silent', 'http://localhost/callback'],
    post_logout_redirect_uris: ['http://127.0.0.1:9902/'],
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
  },
  { client_id: 'odd-post', client_secret: 'p w:+/%&="-of-at-least-32-bytes-0000', token_endpoint_auth_method: 'client_secret_post', ...machine },
];

function resourceServerInfo(resource) {
  if (!/^https:\/\/api\d*\.example\.test\//.test(resource)) throw new errors.InvalidTarget();
  return {
    scope: 'api:read api:write',
    audience: resource,
    accessTokenTTL: settings.lifetime,
    accessTokenFormat: resource.endsWith('/opaque') ? 'opaque' : 'jwt',
  };
}

const certificateOf = (ctx) => (ctx.socket.encrypted ? ctx.socket.getPeerX509Certificate() : undefined);

const provider = new Provider(issuer, {
  adapter: Store,
  clients,
  enabledJWA: {
    clientAuthSigningAlgValues: ['HS256', 'HS384', 'HS512', 'RS256', 'PS256', 'ES256', 'Ed25519', 'EdDSA'],
  },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth',
    'self_signed_tls_client_auth', 'none',
  ],
  assertJwtClientAuthClaimsAndHeader: (_ctx, claims, header) => { switchboard.assertions.push({ ...header, ...claims }); },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  scopes: ['openid', 'offline_access', 'api:read', 'api:write'],
  claims: { openid: ['sub'], profile: ['name'], email: ['email'] },
  // As most servers do, and as OpenID Connect Core 1.0 section 5.4 does not ask: who logged in stands in the ID token.
  conformIdTokenClaims: false,
  ttl: {
    AccessToken: () => settings.lifetime, ClientCredentials: () => settings.lifetime, RefreshToken: 3600, Grant: 3600,
  },
  rotateRefreshToken: () => settings.rotate,
  extraTokenClaims: (_ctx, token) => actors.get(token),
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, name: `${id[0].toUpperCase()}${id.slice(1)}`, email: `${id}@example.test` }) }),
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    ...(process.env.WEB_MESSAGE && { webMessageResponseMode: { enabled: true, ack: 'individual-draft-01' } }),
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => settings.nonce },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_ctx, _client, oneOf) => oneOf ?? DEFAULT_RESOURCE,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, resource) => resourceServerInfo(resource),
    },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      getCertificate: certificateOf,
      certificateAuthorized: (ctx) => ctx.socket.authorized === true,
      certificateSubjectMatches: (ctx, property, expected) => (
        property === 'tls_client_auth_subject_dn' && certificateOf(ctx).subject.replaceAll('\n', ',') === expected),
    },
  },
});

let keys;
/** The public keys that this server signs with, as it publishes them. */
async function ownKeys() {
  if (!keys) {
    const trust = certFile ? { ca: readFileSync(certFile) } : {};
    const { get } = await import(certFile ? 'node:https' : 'node:http');
    const text = await new Promise((resolve, reject) => {
      get(`${issuer}/jwks`, { ...trust, rejectUnauthorized: false }, async (answer) => {
        const parts = [];
        for await (const part of answer) parts.push(part);
        resolve(Buffer.concat(parts).toString());
      }).on('error', reject);
    });
    ({ keys } = JSON.parse(text));
  }
  return keys;
}

registerGrants(provider, {
  ownKeys,
  lifetime: () => settings.lifetime,
  resourceServer: (resource = DEFAULT_RESOURCE) => [resource, resourceServerInfo(resource)],
});

const api = protectedApi({
  issuer,
  ownKeys,
  settings,
  opaque: async (value) => {
    const token = (await provider.AccessToken.find(value)) ?? (await provider.ClientCredentials.find(value));
    return token?.isValid && { sub: token.accountId ?? token.clientId, client_id: token.clientId, scope: token.scope,
      cnf: { jkt: token.jkt, 'x5t#S256': token['x5t#S256'] } };
  },
});

const switchboard = new Switchboard({ provider, settings, api });

provider.use(async (ctx, next) => {
  await next();
  if (ctx.body?.token_endpoint && ctx.path.startsWith('/.well-known/')) {
    if (process.env.MTLS_PORT) {
      const base = `https://${HOST}:${process.env.MTLS_PORT}`;
      ctx.body.mtls_endpoint_aliases = {
        token_endpoint: `${base}/token`, revocation_endpoint: `${base}/token/revocation`,
        introspection_endpoint: `${base}/token/introspection`,
      };
    }
    Object.assign(ctx.body, settings.metadata);
  }
  if (ctx.path === '/token' && ctx.body?.access_token) {
    for (const member of ctx.req.strip ?? []) delete ctx.body[member];
  }
});
provider.on('server_error', (_ctx, error) => console.error(error));
provider.on('grant.error', (_ctx, { error, error_description: said, error_detail: detail }) => console.error(error, said, detail ?? ''));

const handle = switchboard.before(provider.callback());
const tls = (key, cert, ca, answer) => createTls({ key, cert, ca, requestCert: !!ca, rejectUnauthorized: false }, answer);
const listen = (server, at) => new Promise((resolve) => { server.listen(at, HOST, resolve); });

const listening = [listen(certFile ? tls(readFileSync(keyFile), readFileSync(certFile), undefined, handle) : createPlain(handle), port)];
if (pki) {
  const [ca, cert, key] = ['ca.pem', 'server.pem', 'server.key'].map((file) => readFileSync(`${pki}/${file}`));
  listening.push(listen(tls(key, cert, ca, handle), Number(process.env.MTLS_PORT)));
  listening.push(listen(tls(key, cert, ca, api.handle), Number(process.env.API_TLS_PORT)));
  listening.push(listen(createPlain(api.handle), Number(process.env.API_PORT)));
}
await Promise.all(listening);
console.log(`ready ${issuer}`);
process.on('SIGTERM', () => process.exit(0));
