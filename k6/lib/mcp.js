// MCP clients of both eras over k6/http: open, list, call, close.
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import http from 'k6/http';
import * as env from './env.js';
import { logClosed, logOpened } from './log.js';
import { OK, SESSION_LOST, classify, classifyCall, classifyPlain } from './outcome.js';
import { STATELESS, findEra } from './protocol.js';
import { readAnswer } from './reply.js';
import { addTrace, findTraceId, newTraceparent, withTrace } from './trace.js';
import { expandTemplate } from './uri_template.js';

const HEAD = '{"jsonrpc":"2.0","id":';
const CLIENT = { name: 'mcp-loadtest', version: '1' };
const META = 'io.modelcontextprotocol/';
const NO_HEADERS = {};
// A client declares what it can answer, and nothing else, so that no server asks in vain.
const CAPABILITIES = Object.fromEntries(Object.keys(env.inputAnswers()).map((name) => [name, {}]));
// What a client of the stateless era wants to be told.
const NOTIFICATIONS = { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true };
const MAX_REVISION_LENGTH = 200; // because it goes into a header of every request

// k6 looks an imported name up at every use, which costs too much for a call.
const httpPost = http.post;
const [FINE, classifyFast] = [OK, classifyCall];

// The server opens a stream, or has none (MCP 2025-11-25, Streamable HTTP, Listening for Messages).
const STREAM_STATUSES = http.expectedStatuses(200, 405);

// All requests have one URL tag: with the workspace id in it, there would be too many series.
function buildTags(rpc) {
  return { name: 'mcp', rpc };
}

// A call of an entry of the table, as constant text around its request id. Build it once, outside of
// loops. `mirrored` are the arguments of a tool that headers repeat: `{path: [name, …], header}`.
export function buildCall(protocol, entry, args) {
  const [rpc, params, name] = buildRequest(entry, args);
  const stateless = findEra(protocol) === STATELESS;
  if (stateless) params._meta = buildMeta(protocol); // the last one: see addTrace()
  return {
    tool: entry.tool,
    rpc,
    limitMs: entry.limitMs,
    tail: `,"method":"${rpc}","params":${JSON.stringify(params)}}`,
    headers: stateless ? buildCallHeaders(rpc, name, args, entry.mirrored || []) : NO_HEADERS,
    before: null, // text of the last ok answer before its id
    after: null, // and after it
  };
}

// Returns the method and parameters of a call, and the name that a header repeats.
function buildRequest({ tool, kind, target = tool, uri = tool, prompt = tool, resource }, args) {
  if (kind === 'resource') {
    const address = expandTemplate(uri, args);
    return ['resources/read', { uri: address }, address];
  }
  if (kind === 'prompt') return ['prompts/get', { name: prompt, arguments: args }, prompt];
  if (kind === 'completion') return ['completion/complete', buildCompletion(prompt, resource, args), null];
  return ['tools/call', { name: target, arguments: args }, target];
}

// The last argument is completed; those before it are the context.
function buildCompletion(prompt, resource, args) {
  const ref = resource ? { type: 'ref/resource', uri: resource } : { type: 'ref/prompt', name: prompt };
  const context = { ...args };
  const [name, value] = Object.entries(args).pop();
  delete context[name];
  const params = { ref, argument: { name, value } };
  if (Object.keys(context).length > 0) params.context = { arguments: context };
  return params;
}

function buildCallHeaders(rpc, name, args, mirrored) {
  const headers = { 'Mcp-Method': rpc };
  if (name !== null) headers['Mcp-Name'] = encodeHeader(name);
  for (const { path, header } of mirrored) {
    const value = path.reduce((inner, key) => (inner || {})[key], args);
    if (['string', 'number', 'boolean'].includes(typeof value)) {
      headers[`Mcp-Param-${header}`] = encodeHeader(String(value));
    }
  }
  return headers;
}

// Returns a client of the revision's era, not yet open. `rpc` renames the requests of the probe, which
// must stay out of the figures.
export function buildClient(target, rpc = null) {
  return findEra(target.protocol) === STATELESS ? new Stateless(target, rpc) : new Session(target, rpc);
}

class Client {
  constructor({ url, headers, authorization, protocol }, opening, rpc) {
    this.url = url;
    this.protocol = protocol;
    this.opening = opening; // the method that opens it
    this.stateless = findEra(protocol) === STATELESS;
    this.headers = {
      ...headers,
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
    };
    if (authorization !== undefined) this.headers.Authorization = authorization;
    this.mirrored = NO_HEADERS;
    this.id = 0;
    this.bearer = null; // set by newClient()
    this.sessionId = null;
    this.server = {};
    this.answer = null; // the JSON-RPC answer to the last request other than a tool call
    this.response = null; // of the last request, with its timings
    this.params = { headers: this.headers, tags: null, timeout: 0 };
    this.callParams = { headers: this.headers, timeout: 0 };
    this.stream = null; // set by holdStream()
    this.vuTags = null; // while it calls
    this.idBefore = 0; // the last request id before its calls
    this.startedAt = 0; // when it began to open, on the clock of the run
    this.openedAt = 0; // and when it was open
    this.traceparent = null; // that requests carry
    this.tool = null; // in these tags
    this.called = null; // the method in these tags
    this.rpc = rpc;
  }

  // A client may call between beginCalls() and endCalls(). Tags of the VU apply to every sample
  // at no cost; tags of a request are parsed each time.
  beginCalls() {
    this.called = this.rpc || 'tools/call';
    this.vuTags = Object.assign(exec.vu.metrics.tags, buildTags(this.called));
    this.idBefore = this.id;
  }

  endCalls() {
    for (const name of ['name', 'rpc', 'tool']) delete this.vuTags[name];
    this.vuTags = this.tool = null;
  }

  // The server does not know the session any more, so there is nothing to close. open() begins another.
  noteLost() {
    logClosed(this);
    this.sessionId = null;
    delete this.headers['Mcp-Session-Id'];
  }

  // Requests between beginTrace() and endTrace() carry one trace context.
  beginTrace() {
    this.headers.traceparent = this.traceparent = newTraceparent();
  }

  endTrace() {
    delete this.headers.traceparent;
    this.traceparent = null;
  }

  get traceId() {
    return findTraceId(this.traceparent);
  }

  // Sets the tags of the next calls.
  select(call) {
    this.vuTags.tool = this.tool = call.tool;
    if (call.rpc !== this.called && this.rpc === null) this.vuTags.rpc = this.called = call.rpc;
  }

  list(timeoutMs, cursor = null) {
    return this.request('tools/list', cursor === null ? {} : { cursor }, timeoutMs);
  }

  call(call, timeoutMs) {
    const id = (this.id += 1);
    const params = this.callParams;
    params.timeout = timeoutMs;
    if (call.tool !== this.tool) this.select(call);
    if (call.headers !== this.mirrored) this.mirror(call.headers);
    const tail = this.traceparent === null ? call.tail : addTrace(call.tail, this.stateless, this.traceparent);
    const response = httpPost(this.url, HEAD + id + tail, params);
    this.response = response;
    // If the answer equals the last ok answer except for its id, it is ok.
    const { before, after } = call;
    if (after !== null && response.status === 200 && response.body === before + id + after) return FINE;
    return classifyFast(response, id, call, this.stateless, this.sessionId !== null);
  }

  // Makes `count` calls of one tool in parallel; returns the response of each, with its outcome. The first of
  // them carries the trace.
  callTogether(next, count, timeoutMs) {
    const first = this.id + 1;
    const calls = [];
    const requests = [];
    for (let index = 0; index < count; index += 1) {
      const call = next(); // the text of a call lasts until the next one
      if (call.tool !== this.tool) this.select(call);
      const traced = index === 0 && this.traceparent !== null;
      const tail = traced ? addTrace(call.tail, this.stateless, this.traceparent) : call.tail;
      const body = HEAD + (this.id += 1) + tail;
      const headers = Object.assign({}, this.headers, call.headers);
      if (!traced) delete headers.traceparent;
      requests.push(['POST', this.url, body, { headers, timeout: timeoutMs }]);
      calls.push(call);
    }
    return http.batch(requests).map((response, index) => {
      const outcome = classifyCall(response, first + index, calls[index], this.stateless, this.sessionId !== null);
      return { tool: calls[index].tool, outcome, response, traceId: index === 0 ? this.traceId : null };
    });
  }

  // Opens the stream from the server to this client, which k6 reads beside all other requests; returns the
  // promise of its end. The empty tag keeps its life out of the durations of a stage.
  listen(timeoutMs) {
    const [method, body, headers] = this.buildListening();
    const tags = { ...buildTags('stream'), stage: '' };
    const params = { headers, tags, timeout: timeoutMs, responseCallback: STREAM_STATUSES };
    return http.asyncRequest(method, this.url, body, params);
  }

  // Answers a request of the server.
  answerServer(body, timeoutMs) {
    return http.post(this.url, body, { headers: this.headers, tags: buildTags('input'), timeout: timeoutMs });
  }

  // Reads the rest of a stream that the server has closed.
  resumeStream(lastEventId, timeoutMs) {
    const headers = { ...this.headers, Accept: 'text/event-stream', 'Last-Event-ID': lastEventId };
    return http.get(this.url, { headers, tags: buildTags('input'), timeout: timeoutMs });
  }

  // Returns true if no session is left on the server: it has ended already, or (405) the server has no
  // sessions to delete.
  close(timeoutMs) {
    if (this.sessionId === null) return true;
    this.params.tags = buildTags(this.rpc || 'close');
    this.params.timeout = timeoutMs;
    this.response = http.del(this.url, null, this.params);
    const { status } = this.response;
    const lost = status > 0 && classifyPlain(this.response, true) === SESSION_LOST;
    const gone = (status >= 200 && status < 300) || status === 405 || lost;
    if (gone) logClosed(this);
    return gone;
  }

  request(method, params, timeoutMs) {
    this.id += 1;
    const sent = this.traceparent === null ? params : withTrace(params, this.traceparent);
    const body = JSON.stringify({ jsonrpc: '2.0', id: this.id, method, params: sent });
    this.response = this.post(method, body, timeoutMs);
    this.answer = readAnswer(this.response, this.id);
    return classify(this.response, this.answer, this.stateless, this.sessionId !== null);
  }

  post(method, body, timeoutMs) {
    this.params.tags = buildTags(this.rpc || method);
    this.params.timeout = timeoutMs;
    return http.post(this.url, body, this.params);
  }

  // Sets the headers that repeat parts of the body, and removes those of the previous request.
  mirror(headers) {
    for (const name of Object.keys(this.mirrored)) delete this.headers[name];
    Object.assign(this.headers, headers);
    this.mirrored = headers;
  }
}

// The handshake era: initialize negotiates a revision and may begin a session, which DELETE ends.
class Session extends Client {
  constructor(target, rpc) {
    super(target, 'initialize', rpc);
  }

  // Sends initialize and notifications/initialized; `onFirst` gets the outcome of the first answer.
  open(timeoutMs, onFirst = null) {
    const params = { protocolVersion: this.protocol, capabilities: CAPABILITIES, clientInfo: CLIENT };
    const outcome = this.request('initialize', params, timeoutMs);
    if (onFirst) onFirst(outcome, this.response);
    if (outcome !== OK) return outcome;
    const { result } = this.answer;
    this.server = result.serverInfo || {};
    const { protocolVersion } = result;
    if (typeof protocolVersion === 'string') this.protocol = protocolVersion.slice(0, MAX_REVISION_LENGTH);
    this.headers['MCP-Protocol-Version'] = this.protocol;
    this.sessionId = findHeader(this.response.headers, 'mcp-session-id');
    if (this.sessionId !== null) {
      this.headers['Mcp-Session-Id'] = this.sessionId;
      logOpened(this);
    }
    const body = '{"jsonrpc":"2.0","method":"notifications/initialized"}';
    this.response = this.post('notifications/initialized', body, timeoutMs);
    return classifyPlain(this.response, this.sessionId !== null);
  }

  buildListening() {
    return ['GET', null, { ...this.headers, Accept: 'text/event-stream' }];
  }
}

// The stateless era: every request contains revision, client and capabilities, and headers repeat its
// method and name (MCP 2026-07-28, Streamable HTTP, Request Metadata).
class Stateless extends Client {
  constructor(target, rpc) {
    super(target, 'server/discover', rpc);
    this.headers['MCP-Protocol-Version'] = this.protocol;
    this.meta = buildMeta(this.protocol);
  }

  // Sends server/discover like a client that is new to the server; it creates no state there.
  open(timeoutMs, onFirst = null) {
    const outcome = this.request('server/discover', {}, timeoutMs);
    if (onFirst) onFirst(outcome, this.response);
    const { _meta: meta } = outcome === OK ? this.answer.result : {};
    this.server = (meta && meta[`${META}serverInfo`]) || {};
    return outcome;
  }

  request(method, params, timeoutMs) {
    this.mirror({ 'Mcp-Method': method });
    return super.request(method, { ...params, _meta: this.meta }, timeoutMs);
  }

  // MCP 2026-07-28, Subscriptions, Opening a Stream.
  buildListening() {
    const method = 'subscriptions/listen';
    const params = { notifications: NOTIFICATIONS, _meta: this.meta };
    const body = JSON.stringify({ jsonrpc: '2.0', id: (this.id += 1), method, params });
    return ['POST', body, { ...this.headers, 'Mcp-Method': method }];
  }
}

function buildMeta(protocol) {
  return {
    [`${META}protocolVersion`]: protocol,
    [`${META}clientInfo`]: CLIENT,
    [`${META}clientCapabilities`]: CAPABILITIES,
  };
}

// Encodes a value for a header (MCP 2026-07-28, Streamable HTTP, Value Encoding).
function encodeHeader(value) {
  const plain = /^[\x20-\x7e]*$/.test(value) && value.trim() === value;
  if (plain && !/^=\?base64\?.*\?=$/.test(value)) return value;
  return `=?base64?${encoding.b64encode(value)}?=`;
}

export function findHeader(headers, name) {
  const key = Object.keys(headers).find((header) => header.toLowerCase() === name);
  return key === undefined ? null : headers[key];
}

export function pickHeaders(headers, pattern) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => pattern.test(name)));
}
