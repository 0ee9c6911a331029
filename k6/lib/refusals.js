// How servers refuse a request because they are full (`capacity`) or because a client has used up its quota
// (`rate_limited`), and how they say that a session is gone (`session_lost`). Each entry has its source.
import { refusals } from './env.js';
import { readFailure } from './reply.js';

const [CAPACITY, RATE_LIMITED, SESSION_LOST] = ['capacity', 'rate_limited', 'session_lost'];
const MOST_LENGTH = 4096; // of a text that is compared

// All conditions of an entry must hold; the first entry that fits counts.
const BUILT_IN = [
  // The MCP Python SDK (streamable_http_manager.py: 503, -32603) and the sessions guide of the TypeScript
  // SDK v2 (503, -32000) write "Too many open sessions". Atlas writes "too_many_sessions".
  {
    reason: CAPACITY,
    text: /too[ _]many[ _](?:(?:open|active|concurrent|mcp)[ _])*(?:sessions|connections|streams)\b/i,
  },
  // n8n-mcp (github.com/czlonkowski/n8n-mcp/issues/468): "Session limit reached (100). Please wait ...".
  // The MCP Python SDK (server/subscriptions.py): "Subscription limit reached".
  {
    reason: CAPACITY,
    text: /\b(?:session|connection|stream|subscription)s?[ _]limit[ _](?:\w+[ _])?(?:reached|exceeded)\b/i,
  },
  // Servers on the TypeScript SDK v1 with a map of sessions of their own: "Maximum sessions reached".
  {
    reason: CAPACITY,
    text: /\bmax(?:imum)?(?: number of)?(?: \w+)? (?:session|stream)s?(?: limit)? (?:reached|exceeded)\b/i,
  },
  // The MongoDB MCP server: JSON_RPC_ERROR_CODE_SESSION_LIMIT_EXCEEDED.
  { reason: CAPACITY, status: [503], code: [-32006] },
  // RFC 9110, section 10.2.3: with 503, Retry-After says how long the service stays unavailable.
  { reason: CAPACITY, status: [503], headers: { 'retry-after': /\S/ } },

  // RFC 6585, section 4. Atlassian (github.com/atlassian/atlassian-mcp-server/issues/171), Buildkite
  // (buildkite.com/docs/apis/mcp-server/remote/rate-limits) and GitLab send it with more headers.
  { reason: RATE_LIMITED, status: [429] },
  // GitHub (docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api): 403, none remaining.
  { reason: RATE_LIMITED, status: [403], headers: { 'x-ratelimit-remaining': /^0$/ } },
  // tRPC's code of TOO_MANY_REQUESTS, which MCP servers send inside 200 and with 429.
  { reason: RATE_LIMITED, code: [-32029] },
  // EIP-1474: "Limit exceeded".
  { reason: RATE_LIMITED, code: [-32005], text: /limit/i },
  // Codes of tool errors: Atlas "rate_limited", Linear "RATELIMITED", OpenAI "rate_limit_exceeded",
  // Anthropic "rate_limit_error", google.rpc.Code "RESOURCE_EXHAUSTED", AWS "ThrottlingException".
  {
    reason: RATE_LIMITED,
    toolError: /^(?:rate_?limited|rate_limit_(?:exceeded|error)|too_many_requests|quota_exceeded)$/i,
  },
  { reason: RATE_LIMITED, toolError: /^(?:resource_exhausted|throttl(?:ed|ing|ingexception)|429)$/i },
  // RateLimitingMiddleware of FastMCP: -32000 inside 200, "Rate limit exceeded for client: ...".
  // github.com/jmrplens/gitlab-mcp-server: -32000 inside 200, "rate limit exceeded".
  { reason: RATE_LIMITED, text: /\brate[ _-]?limit(?:s|ed)?\b[^.]{0,40}\b(?:exceeded|reached|hit)\b/i },
  // GitHub: "You have exceeded a secondary rate limit".
  { reason: RATE_LIMITED, text: /\bexceeded\b[^.]{0,60}\b(?:rate limit|quota)\b/i },
  // The default message of express-rate-limit, and the reason phrase of 429. Tools quote it from the API
  // behind them: GitLab (issue 629885) reports limits of that API as tool errors inside 200.
  { reason: RATE_LIMITED, text: /\btoo many (?:\w+ )?(?:requests|calls)\b/i },
  // Google APIs: "Quota exceeded for quota metric ...".
  { reason: RATE_LIMITED, text: /\bquota\b[^.]{0,40}\b(?:exceeded|exhausted|reached|used up)\b/i },
];

// For answers to requests with a session id.
const LOST = [
  // MCP 2025-11-25, Streamable HTTP, Session Management.
  { reason: SESSION_LOST, status: [404] },
  // 400, "Bad Request: No valid session ID provided": the MCP Python SDK before 1.25 (its issue 1727), the
  // examples of the TypeScript SDK v1. 400, "Server not initialized": its transport after a restart.
  // 401, "Unauthorized: Session not found": the Rust SDK (its issue 689).
  // 200, "Session not found": Keryx (its issue 503), Zilla (its pull request 2528).
  { reason: SESSION_LOST, isToolError: false, text: /\b(?:no valid|invalid|unknown|expired) session\b/i },
  {
    reason: SESSION_LOST,
    isToolError: false,
    text: /\bsession\b[^.]{0,80}\b(?:not found|expired|terminated|does not exist)\b/i,
  },
  { reason: SESSION_LOST, isToolError: false, text: /\bserver not initialized\b/i },
];

const OWN = refusals();
const WITH_SESSION = [...OWN, ...LOST, ...BUILT_IN];
const WITHOUT_SESSION = [...OWN.filter(({ reason }) => reason !== SESSION_LOST), ...BUILT_IN];

// Returns the reason if an HTTP response that is not ok is a refusal or is of a lost session, else null.
export function findRefusal(response, answer, hasSession) {
  const { status, headers, body } = response;
  const failure = readFailure(answer);
  const text = (failure.text === null ? String(body) : failure.text).slice(0, MOST_LENGTH);
  const facts = { status, headers, text, code: failure.code, toolError: failure.toolError };
  const found = (hasSession ? WITH_SESSION : WITHOUT_SESSION).find((entry) => fits(entry, facts));
  return found === undefined ? null : found.reason;
}

function fits(entry, { status, headers, text, code, toolError }) {
  if (entry.status && !entry.status.includes(status)) return false;
  if (entry.code && !entry.code.includes(code)) return false;
  if (entry.toolError && (toolError === null || !entry.toolError.test(toolError))) return false;
  if (entry.isToolError === false && toolError !== null) return false;
  if (entry.text && !entry.text.test(text)) return false;
  return Object.entries(entry.headers || {}).every(([name, value]) =>
    Object.keys(headers).some((key) => key.toLowerCase() === name && value.test(headers[key])),
  );
}
