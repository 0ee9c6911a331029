// The bearers of the OAuth clients. While a scenario runs they are renewed over HTTP, because a VU
// cannot open a file again.
import encoding from 'k6/encoding';
import http from 'k6/http';
import exec from 'k6/execution';
import * as env from './env.js';
import { histograms } from './histograms.js';
import { buildRandom } from './random.js';

const RENEWAL_URL = env.renewalUrl();
// Without this token our own process renews bearers. With it, they come from the API server of a cluster,
// which VUs must not all ask at the same time.
const CLUSTER_TOKEN = env.clusterToken();
// A bearer is renewed this long before it expires, but not earlier than in the last quarter of its life.
const LEAD_MS = CLUSTER_TOKEN === null ? 60000 : Infinity;
const RETRY_MS = CLUSTER_TOKEN === null ? 2000 : 15000; // after an answer without a newer bearer
const TAGS = { name: 'renewal', rpc: 'renewal', tool: '' }; // overrides the VU's tag
const HEADERS = CLUSTER_TOKEN === null ? {} : { Authorization: `Bearer ${CLUSTER_TOKEN}` };
const PARAMS = { tags: TAGS, headers: HEADERS, timeout: 30000, responseType: 'text' };

const bearers = env.bearers();
// A target that takes no bearer has one client, whose requests have no such header.
const clients =
  bearers === null
    ? [{ client: 0, serial: 0, header: undefined, expiresAt: Infinity, renewAt: Infinity }]
    : bearers.map(({ serial, token, expiresAt }, client) => ({
        client,
        serial,
        header: `Bearer ${token}`,
        expiresAt,
        renewAt: null, // computed when a VU first needs the bearer
      }));
const REFUSED =
  bearers === null
    ? 'the target answers 401 to calls without a bearer: check auth and headers of the environment'
    : 'the target refuses the bearer, and there is no newer one';

export const CLIENTS = clients.length;

// Sessions take clients in turn, so that all clients have equally many.
export function bearerOf(turn) {
  return clients[turn % clients.length];
}

// Returns the Authorization header of a bearer, renewed first if that is due; undefined without a bearer.
export function freshHeader(bearer) {
  if (bearer.renewAt === null) bearer.renewAt = RENEWAL_URL === null ? Infinity : findRenewalTime(bearer);
  if (Date.now() >= bearer.renewAt) renew(bearer, '');
  return bearer.header;
}

// Renews a bearer after a 401. If there is no newer one, it ends the run, so that the target does not get
// the refused bearer again and again.
export function renewRefused(bearer) {
  const before = bearer.serial;
  if (RENEWAL_URL !== null) renew(bearer, '/refused');
  if (bearer.serial === before) exec.test.abort(REFUSED);
}

function renew(bearer, suffix) {
  bearer.renewAt = Date.now() + RETRY_MS;
  const found = CLUSTER_TOKEN === null ? askProcess(bearer, suffix) : readSecret(bearer);
  if (found === null || found.serial === bearer.serial) return;
  bearer.serial = found.serial;
  bearer.header = `Bearer ${found.token}`;
  bearer.expiresAt = found.expiresAt;
  bearer.renewAt = findRenewalTime(bearer);
  histograms.whole.count('mcp_renewals');
}

function askProcess({ client, serial }, suffix) {
  const response = http.get(`${RENEWAL_URL}/${client}/${serial}${suffix}`, PARAMS);
  if (response.status !== 200) return null;
  const found = response.json();
  return { serial: found.serial, token: found.access_token, expiresAt: found.expires_at * 1000 };
}

// Reads the current bearer file from the Kubernetes Secret.
function readSecret({ client }) {
  const response = http.get(RENEWAL_URL, PARAMS);
  if (response.status !== 200) return null;
  const file = encoding.b64decode(response.json().data['bearer.json'], 'std', 's');
  return env.parseBearers(JSON.parse(file))[client];
}

// Returns when to renew a bearer; VUs do so at different times.
function findRenewalTime({ expiresAt, client, serial }) {
  const lead = Math.min(LEAD_MS, (expiresAt - Date.now()) / 4);
  return expiresAt - lead * (1 + buildRandom(__VU, client + serial)() / 2);
}
