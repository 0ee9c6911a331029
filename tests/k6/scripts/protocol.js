// Which revision is used with which target, tested with fake clients.
import { check } from 'k6';
import encoding from 'k6/encoding';
import { buildCall } from '../../../k6/lib/mcp.js';
import { negotiate } from '../../../k6/lib/protocol.js';

export const options = { thresholds: { checks: ['rate==1'] } };

const discovered = (...supportedVersions) => ['ok', { result: { supportedVersions } }];
const initialized = (protocolVersion) => ['ok', { result: { protocolVersion } }];
const refused = (code, data) => ['http_400', { error: { code, data } }];
const unsupported = (...supported) => refused(-32022, { supported });
const handshake = { initialize: initialized('2025-11-25') };

// The requested revision; the target's answers by method; the negotiated revision or the error.
const CASES = [
  ['auto', { 'server/discover': discovered('2026-07-28'), ...handshake }, '2026-07-28'],
  ['auto', { 'server/discover': discovered('2025-11-25'), ...handshake }, '2025-11-25'],
  ['auto', { 'server/discover': discovered('2099-01-01'), ...handshake }, '2025-11-25'],
  ['auto', { 'server/discover': ['ok', { result: {} }], ...handshake }, '2025-11-25'],
  ['auto', { 'server/discover': ['http_400', null], ...handshake }, '2025-11-25'],
  ['auto', { 'server/discover': refused(-32000), ...handshake }, '2025-11-25'],
  ['auto', { 'server/discover': ['http_404', null], ...handshake }, '2025-11-25'],
  ['auto', { 'server/discover': ['rpc_error', { error: { code: -32601 } }], ...handshake }, '2025-11-25'],
  ['auto', { 'server/discover': ['unparseable', null], ...handshake }, '2025-11-25'],
  ['auto', { 'server/discover': unsupported('2025-06-18'), ...handshake }, '2025-11-25'],
  ['auto', { 'server/discover': ['http_400', null], initialize: initialized('2025-03-26') },
    '2025-03-26'],
  ['auto', { 'server/discover': ['http_400', null], initialize: ['http_400', null] },
    'the probe of the target failed at initialize: http_400'],
  ['auto', { 'server/discover': unsupported('2099-01-01', 'a\nb') },
    'the probe of the target failed at server/discover: it speaks 2099-01-01, a?b'],
  ['auto', { 'server/discover': refused(-32020) },
    'the probe of the target failed at server/discover: ' +
      'it answers server/discover with JSON-RPC error -32020'],
  ...['unauthorized', 'rate_limited', 'timeout', 'connection', 'http_502'].map((outcome) =>
    ['auto', { 'server/discover': [outcome, null] },
      `the probe of the target failed at server/discover: ${outcome}`]),
  ['2026-07-28', { 'server/discover': discovered('2026-07-28') }, '2026-07-28'],
  ['2026-07-28', { 'server/discover': discovered('2099-01-01') },
    'the target does not speak 2026-07-28: it speaks 2099-01-01'],
  ['2026-07-28', { 'server/discover': unsupported('2099-01-01') },
    'the target does not speak 2026-07-28: it speaks 2099-01-01'],
  ['2026-07-28', { 'server/discover': ['http_400', null] },
    'the target does not speak 2026-07-28: it answers server/discover with http_400'],
  ['2026-07-28', { 'server/discover': ['http_503', null] },
    'the probe of the target failed at server/discover: http_503'],
  ['2025-06-18', { initialize: initialized('2025-06-18') }, '2025-06-18'],
  ['2025-06-18', { initialize: initialized('2025-03-26') },
    'the target does not speak 2025-06-18: it speaks 2025-03-26'],
  ['2025-06-18', { initialize: unsupported('2026-07-28') },
    'the target does not speak 2025-06-18: it speaks 2026-07-28'],
  ['2025-06-18', { initialize: refused(-32020) },
    'the target does not speak 2025-06-18: it answers initialize with JSON-RPC error -32020'],
  ['2025-06-18', { initialize: ['unauthorized', null] },
    'the probe of the target failed at initialize: unauthorized'],
];

// A fake client with these answers; it logs what was opened and closed.
function buildFake(answers, log) {
  return (protocol) => {
    const opening = protocol === '2026-07-28' ? 'server/discover' : 'initialize';
    const client = { protocol, opening, answer: null, close: () => log.closed.push(opening) };
    client.open = () => {
      log.opened.push(opening);
      const [outcome, answer] = answers[opening];
      client.answer = answer;
      if (answer && answer.result && answer.result.protocolVersion) {
        client.protocol = answer.result.protocolVersion;
      }
      return outcome;
    };
    return client;
  };
}

function ask(asked, answers, log) {
  try {
    return negotiate(asked, buildFake(answers, log), 1000).protocol;
  } catch (error) {
    return error.message;
  }
}

export default function protocol() {
  for (const [asked, answers, expected] of CASES) {
    const log = { opened: [], closed: [] };
    const said = ask(asked, answers, log);
    const says = `${asked}, ${JSON.stringify(answers)}: ${expected}`;
    if (!check(said, { [says]: (it) => it === expected })) console.error(says, 'but', said);
    check(log, { 'each era is tried once at most': ({ opened }) => new Set(opened).size === opened.length });
  }
  const { headers, tail } = buildCall('2026-07-28', { tool: 'listEntities' }, { filter: 'x' });
  const { params } = JSON.parse(`{"id":1${tail}`);
  check(params._meta, {
    'a stateless call contains its metadata': (meta) =>
      meta['io.modelcontextprotocol/protocolVersion'] === '2026-07-28' &&
      meta['io.modelcontextprotocol/clientInfo'].name === 'mcp-loadtest' &&
      typeof meta['io.modelcontextprotocol/clientCapabilities'] === 'object',
  });
  check(headers, {
    'and headers that repeat method and name': (it) =>
      it['Mcp-Method'] === 'tools/call' && it['Mcp-Name'] === 'listEntities',
  });
  check(buildCall('2025-11-25', { tool: 'listEntities' }, {}), {
    'a call of the handshake era has neither': (call) =>
      Object.keys(call.headers).length === 0 && call.tail.indexOf('_meta') < 0,
  });
  for (const name of ['größe', ' padded', 'line\nbreak', '=?base64?x?=']) {
    const value = buildCall('2026-07-28', { tool: name }, {}).headers['Mcp-Name'];
    check(value, {
      'a name that no header can carry is encoded': (it) =>
        it.startsWith('=?base64?') && encoding.b64decode(it.slice(9, -2), 'std', 's') === name,
    });
  }
}
