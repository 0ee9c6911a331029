// An MCP client of the handshake era over k6/http: open, list, call, close.
import http from 'k6/http';
import { OK, classify, classifyCall, classifyPlain } from './outcome.js';
import { parseReply } from './reply.js';

const HEAD = '{"jsonrpc":"2.0","id":';
const LIST = ',"method":"tools/list"}';
const INITIALIZED = '{"jsonrpc":"2.0","method":"notifications/initialized"}';
const CLIENT = { name: 'mcp-loadtest', version: '1' };

// One URL tag for every request: a workspace id in it would multiply the series.
function buildTags(rpc, more) {
  return Object.assign({ name: 'mcp', rpc }, more);
}

// A tool call as constant text around its request id; build it once, outside every loop.
export function buildCall(tool, args) {
  const params = JSON.stringify({ name: tool, arguments: args });
  return {
    row: { tool },
    tail: `,"method":"tools/call","params":${params}}`,
    tags: buildTags('tools/call', { tool }),
  };
}

export class Session {
  // `rpc` renames the requests of a session that must stay out of the figures (the probe).
  constructor({ url, bearer, protocol }, rpc = null) {
    this.url = url;
    this.protocol = protocol;
    this.headers = {
      Authorization: `Bearer ${bearer}`,
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
    };
    this.id = 0;
    this.sessionId = null;
    this.server = null;
    this.response = null; // of the last request: its timings
    this.params = { headers: this.headers, tags: null, timeout: 0 };
    this.rpc = rpc;
  }

  // initialize + notifications/initialized; `onInitialize` sees the first answer's outcome.
  open(timeoutMs, onInitialize = null) {
    const tail = `,"method":"initialize","params":${JSON.stringify({
      protocolVersion: this.protocol,
      capabilities: {},
      clientInfo: CLIENT,
    })}}`;
    const outcome = this.request('initialize', tail, timeoutMs);
    if (onInitialize) onInitialize(outcome, this.response);
    if (outcome !== OK) return outcome;
    const { result } = parseReply(this.response.body, this.id);
    this.server = result.serverInfo || {};
    this.protocol = result.protocolVersion || this.protocol;
    this.headers['MCP-Protocol-Version'] = this.protocol;
    this.sessionId = findHeader(this.response.headers, 'mcp-session-id');
    if (this.sessionId !== null) this.headers['Mcp-Session-Id'] = this.sessionId;
    this.response = this.post('notifications/initialized', INITIALIZED, timeoutMs);
    return classifyPlain(this.response);
  }

  list(timeoutMs) {
    return this.request('tools/list', LIST, timeoutMs);
  }

  call(call, timeoutMs) {
    this.id += 1;
    const head = HEAD + this.id;
    const { params } = this;
    params.tags = call.tags;
    params.timeout = timeoutMs;
    const response = http.post(this.url, head + call.tail, params);
    this.response = response;
    return classifyCall(response, this.id, head);
  }

  // True when nothing is left on the server. 404: gone already; 405: it keeps none to delete.
  close(timeoutMs) {
    if (this.sessionId === null) return true;
    this.params.tags = buildTags(this.rpc || 'close');
    this.params.timeout = timeoutMs;
    this.response = http.del(this.url, null, this.params);
    const { status } = this.response;
    return (status >= 200 && status < 300) || status === 404 || status === 405;
  }

  request(rpc, tail, timeoutMs) {
    this.id += 1;
    this.response = this.post(rpc, HEAD + this.id + tail, timeoutMs);
    return classify(this.response, this.id);
  }

  post(rpc, body, timeoutMs) {
    this.params.tags = buildTags(this.rpc || rpc);
    this.params.timeout = timeoutMs;
    return http.post(this.url, body, this.params);
  }
}

function findHeader(headers, name) {
  const key = Object.keys(headers).find((header) => header.toLowerCase() === name);
  return key === undefined ? null : headers[key];
}
