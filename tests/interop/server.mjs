// Another project's authorization server (npm: oidc-provider) and, on the same origin, an MCP endpoint
// that accepts its tokens. Prints one JSON line when it is ready; ends when stdin closes. Arguments are
// the client authentication methods of the token endpoint.

import { randomBytes, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { argv } from 'node:process';
import { json, text } from 'node:stream/consumers';
import { createRemoteJWKSet, exportJWK, exportPKCS8, generateKeyPair, jwtVerify } from 'jose';
import Provider, { errors } from 'oidc-provider';

const SECRET_AUTH = ['client_secret_basic', 'client_secret_post'];
const CLIENT_AUTH = argv.length > 2 ? argv.slice(2) : [...SECRET_AUTH, 'private_key_jwt', 'none'];
const LOGIN = 'visitor@interop.example';
const PASSWORD = randomBytes(12).toString('base64url');
const SCOPES = ['mcp:read', 'mcp:write'];
const WORKSPACE_CLAIM = 'urn:interop:workspace';
const WORKSPACE_ID = 'ws-interop';
const METADATA = '/.well-known/oauth-protected-resource';
const CLIENT_DOCUMENT = 'https://client.example/mcp-loadtest.json';

// The resource of each MCP endpoint, for itself and for the authorization server.
const ENDPOINTS = {
  '/mcp': { resource: '/mcp', tokens: 'jwt' },
  '/opaque/mcp': { resource: '/opaque/mcp', tokens: 'opaque' },
  '/unknown/mcp': { resource: '/unknown/mcp', tokens: null },
  '/mislabelled/mcp': { resource: '/elsewhere', tokens: null },
};

// The package writes notices to stdout, which is reserved for the ready line.
console.info = console.warn;

process.stdin.on('close', () => process.exit(0)).resume();

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${server.address().port}`;

const observed = { registrations: 0, deletions: 0, revocations: 0, grants: [] };
const machineKey = await generateKeyPair('ES256', { extractable: true });
const clients = [...buildGivenClients(), ...(await buildMachines())];
const provider = await buildProvider(clients);
const authorizationServer = provider.callback();
const mcpSessions = new Set();
const keys = createRemoteJWKSet(new URL(`${origin}/jwks`));

server.on('request', async (request, response) => {
  const path = request.url.split('?')[0];
  try {
    if (path === '/observed') reply(response, 200, { ...observed, sessions: mcpSessions.size });
    else if (path in ENDPOINTS) await serveMcp(path, request, response);
    else if (path.startsWith(METADATA)) serveMetadata(path.slice(METADATA.length), response);
    else authorizationServer(request, response);
  } catch (failure) {
    console.error(failure);
    reply(response, 500, { error: 'server_error' });
  }
});

console.log(
  JSON.stringify({
    origin,
    login: LOGIN,
    password: PASSWORD,
    workspace_claim: WORKSPACE_CLAIM,
    workspace_id: WORKSPACE_ID,
    client_document: CLIENT_DOCUMENT,
    secrets: Object.fromEntries(
      clients.flatMap((each) => (each.client_secret ? [[each.client_id, each.client_secret]] : [])),
    ),
    machine_key: await exportPKCS8(machineKey.privateKey),
  }),
);

/** Build the native clients that need no registration, one for each way to send a secret. */
function buildGivenClients() {
  return SECRET_AUTH.filter((method) => CLIENT_AUTH.includes(method)).map((method) => ({
    ...nativeClient(method),
    client_id: `given ${method}`,
    client_secret: makeSecret(),
  }));
}

/** Build the clients that sign in as themselves: one by secret, one by key (RFC 7523). */
async function buildMachines() {
  const machine = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
  const jwk = await exportJWK(machineKey.publicKey);
  const proofs = {
    client_secret_basic: { client_secret: makeSecret() },
    private_key_jwt: { jwks: { keys: [jwk] }, token_endpoint_auth_signing_alg: 'ES256' },
  };
  return Object.entries(proofs)
    .filter(([method]) => CLIENT_AUTH.includes(method))
    .map(([method, proof]) => ({
      ...machine,
      ...proof,
      client_id: `machine ${method}`,
      token_endpoint_auth_method: method,
    }));
}

/** Make a secret with what Basic authentication must form-encode (RFC 6749, section 2.3.1). */
function makeSecret() {
  return `${randomBytes(24).toString('base64url')} :+/%&=?`;
}

function nativeClient(method) {
  return {
    application_type: 'native',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['http://127.0.0.1/callback'],
    response_types: ['code'],
    token_endpoint_auth_method: method,
  };
}

/** Build an OAuth 2.1 authorization server: S256 always, RFC 8707 tokens, RFC 7591 registration. */
async function buildProvider(clients) {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const built = new Provider(origin, {
    clientAuthMethods: CLIENT_AUTH,
    clients,
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    cookies: { keys: [randomUUID()] },
    extraTokenClaims: () => ({ [WORKSPACE_CLAIM]: WORKSPACE_ID }),
    features: {
      clientCredentials: { enabled: true },
      clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
      devInteractions: { enabled: true },
      registration: { enabled: true, issueRegistrationAccessToken: true },
      registrationManagement: { enabled: true },
      resourceIndicators: { enabled: true, getResourceServerInfo: findResource },
      revocation: { enabled: true },
    },
    fetch: fetchClientDocument,
    findAccount: (_, id) => (id === LOGIN ? { accountId: id, claims: () => ({ sub: id }) } : null),
    jwks: { keys: [{ ...(await exportJWK(privateKey)), alg: 'ES256', use: 'sig' }] },
    pkce: { required: () => true },
    responseTypes: ['code'],
    rotateRefreshToken: true,
    scopes: ['openid', 'offline_access', ...SCOPES],
  });
  built.on('registration_create.success', () => (observed.registrations += 1));
  built.on('registration_delete.success', () => (observed.deletions += 1));
  built.on('grant.success', (ctx) => observed.grants.push(describeGrant(ctx)));
  built.on('grant.revoked', () => (observed.revocations += 1));
  built.use(stayLocal);
  built.use(refuseWrongPasswords);
  return built;
}

/** Say which grant it was and how the client sent its secret; the package takes either way. */
function describeGrant({ headers, oidc: { params } }) {
  if (params.client_assertion) return [params.grant_type, 'private_key_jwt'];
  if (params.client_secret) return [params.grant_type, 'client_secret_post'];
  return [params.grant_type, headers.authorization ? 'client_secret_basic' : 'none'];
}

function findResource(_, indicator) {
  const found = Object.values(ENDPOINTS).find(
    ({ resource, tokens }) => tokens !== null && origin + resource === indicator,
  );
  if (!found) throw new errors.InvalidTarget('this server issues no tokens for that resource');
  return {
    accessTokenFormat: found.tokens,
    accessTokenTTL: 600,
    audience: indicator,
    jwt: { sign: { alg: 'ES256' } },
    scope: SCOPES.join(' '),
  };
}

/** Answer for the one client document that exists; nothing is fetched from anywhere. */
async function fetchClientDocument(url) {
  if (String(url) !== CLIENT_DOCUMENT) throw new Error('there is no network here');
  return Response.json({ ...nativeClient('none'), client_id: CLIENT_DOCUMENT });
}

/** Keep the browser from the web font that the package's pages import. */
async function stayLocal(ctx, next) {
  await next();
  ctx.set('Content-Security-Policy', "default-src 'self'; style-src 'unsafe-inline'");
}

/** Refuse all passwords but one, on the package's own page, which takes any. */
async function refuseWrongPasswords(ctx, next) {
  if (ctx.method !== 'POST' || !ctx.path.startsWith('/interaction/')) {
    await next();
    return;
  }
  const form = Object.fromEntries(new URLSearchParams(await text(ctx.req)));
  ctx.req.body = form;
  const right = form.login === LOGIN && form.password === PASSWORD;
  if (form.prompt === 'login' && !right) ctx.method = 'GET';
  await next();
  if (ctx.method === 'GET') {
    const alert = '<p role="alert">Wrong login or password.</p>';
    ctx.body = ctx.body.replace('<form', `${alert}<form`);
  }
}

function serveMetadata(path, response) {
  if (!(path in ENDPOINTS)) {
    reply(response, 404, { error: 'not_found' });
    return;
  }
  reply(response, 200, {
    resource: origin + ENDPOINTS[path].resource,
    authorization_servers: [origin],
    bearer_methods_supported: ['header'],
    scopes_supported: SCOPES,
  });
}

/** Serve the handshake of MCP 2025-11-25 to those who hold a token for this very endpoint. */
async function serveMcp(path, request, response) {
  const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1];
  const scope = token === undefined ? null : await readScope(path, token);
  if (scope === null || !scope.split(' ').includes('mcp:read')) {
    const failed = scope === null ? 'invalid_token' : 'insufficient_scope';
    response.setHeader(
      'WWW-Authenticate',
      `Bearer ${token === undefined ? '' : `error="${failed}", `}scope="mcp:read", ` +
        `resource_metadata="${origin}${METADATA}${path}"`,
    );
    reply(response, scope === null ? 401 : 403, { error: failed });
  } else if (request.method === 'DELETE') {
    const ended = mcpSessions.delete(request.headers['mcp-session-id']);
    response.writeHead(ended ? 204 : 404).end();
  } else if (request.method === 'POST') {
    initialize(await json(request), response);
  } else {
    response.writeHead(405, { Allow: 'POST, DELETE' }).end();
  }
}

/** Return what a token may do here; null unless it was issued for this endpoint. */
async function readScope(path, token) {
  const audience = origin + ENDPOINTS[path].resource;
  if (ENDPOINTS[path].tokens === 'opaque') {
    const found = await provider.AccessToken.find(token);
    return found?.aud === audience ? found.scope : null;
  }
  try {
    const checks = { issuer: origin, audience, typ: 'at+jwt' };
    return (await jwtVerify(token, keys, checks)).payload.scope ?? '';
  } catch {
    return null;
  }
}

function initialize({ id, method, params }, response) {
  if (method !== 'initialize') {
    const error = { code: -32601, message: 'no such method' };
    reply(response, 200, { jsonrpc: '2.0', id, error });
    return;
  }
  const session = randomUUID();
  mcpSessions.add(session);
  response.setHeader('Mcp-Session-Id', session);
  const result = {
    protocolVersion: params.protocolVersion,
    capabilities: {},
    serverInfo: { name: 'interop', version: '1' },
  };
  reply(response, 200, { jsonrpc: '2.0', id, result });
}

function reply(response, status, body) {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}
