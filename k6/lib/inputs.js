// Answers what a server asks of its client while a call runs, from the table: elicitation, sampling, roots.
import * as env from './env.js';
import { INPUT_REQUIRED, classify, classifyPlain } from './outcome.js';
import { findLastEventId, listRequests, readAnswer } from './reply.js';

const ANSWERS = env.inputAnswers();
const USED = Object.keys(ANSWERS).length > 0;
const MAX_ROUNDS = 10;
const MODEL = 'mcp-loadtest';

// Makes a client able to answer. Without answers in the table, its calls stay as they are.
export function answerInputs(client) {
  if (!USED) return client;
  const call = client.call.bind(client);
  client.call = (each, timeoutMs) => {
    const outcome = call(each, timeoutMs);
    return outcome === INPUT_REQUIRED ? goOn(client, call, each, timeoutMs) : outcome;
  };
  return client;
}

// Answers until the call ends. All requests together are one call: its duration is their sum.
function goOn(client, call, each, timeoutMs) {
  const follow = client.stateless ? retry : resume;
  const spent = [];
  let outcome = INPUT_REQUIRED;
  for (let round = 0; round < MAX_ROUNDS && outcome === INPUT_REQUIRED; round += 1) {
    const before = client.response;
    const next = follow(client, call, each, timeoutMs);
    if (next === null) break;
    spent.push(before);
    outcome = next;
  }
  client.response = addUp(spent, client.response);
  return outcome;
}

// The stateless era: the call is made again with the answers (MCP 2026-07-28, Multi Round-Trip Requests).
// Returns null if the table has no answer.
function retry(client, call, each, timeoutMs) {
  const { result } = readAnswer(client.response, client.id) || {};
  const { inputRequests = {}, requestState } = result || {};
  const inputResponses = {};
  for (const [key, request] of Object.entries(inputRequests)) {
    inputResponses[key] = findAnswer(request);
  }
  const unanswered = Object.values(inputResponses).includes(null);
  if (unanswered || (requestState === undefined && !Object.keys(inputRequests).length)) return null;
  const { method, params: first } = JSON.parse(`{${each.tail.slice(1)}`);
  const { _meta, ...rest } = first;
  const params = { ...rest, inputResponses, requestState, _meta };
  const tail = `,"method":"${method}","params":${JSON.stringify(params)}}`;
  return call({ ...each, tail, before: null, after: null }, timeoutMs);
}

// The handshake era: the answers are posted, and the stream that the server has closed is resumed (MCP
// 2025-11-25, Streamable HTTP, Resumability). k6 cannot read a stream that stays open, so one that waits
// for the answer is not answered. Returns null then, and if the table has no answer.
function resume(client, call, each, timeoutMs) {
  const { status, body } = client.response;
  const requests = status === 200 ? listRequests(body) : [];
  const results = requests.map(findAnswer);
  const lastEventId = findLastEventId(body);
  if (!requests.length || results.includes(null) || lastEventId === null) return null;
  for (let at = 0; at < requests.length; at += 1) {
    const answer = { jsonrpc: '2.0', id: requests[at].id, result: results[at] };
    const outcome = classifyPlain(client.answerServer(JSON.stringify(answer), timeoutMs), true);
    if (outcome !== 'ok') return outcome;
  }
  client.response = client.resumeStream(lastEventId, timeoutMs);
  return classify(client.response, readAnswer(client.response, client.id), false, true);
}

// Returns what the server asks for, as text.
export function describeInputs({ response, id }) {
  const { result, error } = readAnswer(response, id) || {};
  if (error) return `the server needs ${JSON.stringify(error.data)}`;
  const requests = Object.values((result && result.inputRequests) || {}).concat(listRequests(response.body));
  const texts = requests.map(({ method, params }) => `${method} ${JSON.stringify(params || {})}`);
  return `the server asks for ${texts.join(', ')}, which answers in the table do not have`;
}

function findAnswer({ method, params }) {
  const { elicitation, sampling, roots } = ANSWERS;
  if (method === 'elicitation/create' && elicitation) return fillIn(elicitation, params || {});
  if (method === 'sampling/createMessage' && sampling) {
    return { role: 'assistant', content: { type: 'text', text: sampling }, model: MODEL, stopReason: 'endTurn' };
  }
  if (method === 'roots/list' && roots) return { roots: roots.map((uri) => ({ uri })) };
  return null;
}

// Fills in a form with the fields that it has; null if one that it requires is not in the table.
function fillIn(elicitation, { requestedSchema }) {
  if (typeof elicitation === 'string') return { action: elicitation };
  const { properties = {}, required = [] } = requestedSchema || {};
  if (required.some((name) => !(name in elicitation))) return null;
  const fields = Object.entries(elicitation).filter(([name]) => name in properties);
  return { action: 'accept', content: Object.fromEntries(fields) };
}

function addUp(spent, { status, body, headers, error, error_code, timings }) {
  const sum = (name) => spent.reduce((total, each) => total + each.timings[name], timings[name]);
  const { receiving } = timings;
  const times = { duration: sum('duration'), blocked: sum('blocked'), waiting: sum('duration') - receiving, receiving };
  return { status, body, headers, error, error_code, timings: times };
}
