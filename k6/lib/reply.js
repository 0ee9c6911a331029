// Reads JSON-RPC replies from HTTP bodies: plain JSON or server-sent events.

// Returns the data of a body that is one JSON document, or one event on one line; else null.
export function loneData(body) {
  if (body === null) return null;
  const first = body.charCodeAt(0);
  if (first === 123) return body; // {
  let start = 0;
  if (first === 101 && body.startsWith('event: message\n')) start = 15; // e
  else if (first === 101 && body.startsWith('event: message\r\n')) start = 16;
  if (!body.startsWith('data: ', start)) return null;
  const end = body.indexOf('\n', start);
  const rest = body.length - end;
  if (rest === 2 && body.endsWith('\n\n')) return body.substring(start + 6, end);
  if (rest === 3 && body.endsWith('\r\n\r\n')) return body.substring(start + 6, end - 1);
  return null;
}

// Returns the data of every complete `message` event (HTML standard, section 9.2.6).
export function parseEvents(body) {
  const found = [];
  let type = '';
  let data = [];
  const lines = body.replace(/^\ufeff/, '').split(/\r\n|\n|\r/);
  lines.pop(); // the text after the last line end is incomplete
  for (const line of lines) {
    if (line === '') {
      if (data.length > 0 && (type === '' || type === 'message')) found.push(data.join('\n'));
      type = '';
      data = [];
      continue;
    }
    const colon = line.indexOf(':');
    if (colon === 0) continue;
    const name = colon < 0 ? line : line.substring(0, colon);
    const value = colon < 0 ? '' : line.substring(colon + 1).replace(/^ /, '');
    if (name === 'data') data.push(value);
    else if (name === 'event') type = value;
  }
  return found;
}

// Returns the JSON-RPC response to request `id`, or null if the body has none.
export function parseReply(body, id) {
  return findMessage(body, (message) => message.id === id && isResponse(message));
}

// What a server asks of its client while a call runs.
const INPUTS = ['elicitation/create', 'sampling/createMessage', 'roots/list'];

// Returns the requests of the server in a body, also in one that was cut off.
export function listRequests(body) {
  const found = [];
  findMessage(body, (message) => {
    if (INPUTS.includes(message.method) && message.id !== undefined) found.push(message);
    return false;
  });
  return found;
}

// Returns the id of the last event that has one, or null.
export function findLastEventId(body) {
  const ids = typeof body === 'string' ? body.match(/^id:[^\r\n]*/gm) : null;
  return ids && ids[ids.length - 1].slice(3).trim();
}

// Returns the JSON-RPC answer in an HTTP response of any status.
export function readAnswer(response, id) {
  return response.status === 200 ? parseReply(response.body, id) : parseRefusal(response.body, id);
}

// Returns the error of a refused request. If the server could not read the id, the error has none or null
// (MCP 2026-07-28, Overview, Error Responses).
function parseRefusal(body, id) {
  const named = (message) => message.id === id || message.id === null || message.id === undefined;
  return findMessage(body, (message) => named(message) && isResponse(message) && message.error);
}

// Returns the message of a body that is a JSON-RPC error, or null.
export function findError(body) {
  return findMessage(body, (message) => isResponse(message) && isObject(message.error));
}

// Returns what an answer says about a failure: the code of a JSON-RPC error, else that of a tool error, and
// the text. Without a failed answer they are null.
export function readFailure(answer) {
  const { error, result } = answer || {};
  if (error) {
    const data = error.data === undefined ? '' : ` ${JSON.stringify(error.data)}`;
    return { code: error.code, toolError: null, text: `${error.message}${data}` };
  }
  if (!result || result.isError !== true) return { code: null, toolError: null, text: null };
  const first = Array.isArray(result.content) ? result.content[0] : null;
  const text = first && typeof first.text === 'string' ? first.text : '';
  return { code: null, toolError: readToolErrorCode(text), text };
}

function readToolErrorCode(text) {
  const plain = /^MCP error (-\d+)/.exec(text);
  if (plain) return plain[1];
  try {
    const { code, error } = JSON.parse(text);
    if (code !== undefined) return String(code);
    return String((isObject(error) ? error.code : error) || 'other');
  } catch (_) {
    return 'other';
  }
}

function findMessage(body, matches) {
  if (typeof body !== 'string') return null;
  const lone = loneData(body);
  const texts = lone !== null ? [lone] : /^\s*[{[]/.test(body) ? [body] : parseEvents(body);
  for (const text of texts) {
    let parsed = null;
    try {
      parsed = JSON.parse(text);
    } catch (_) {
      continue;
    }
    const found = [].concat(parsed).find((message) => isObject(message) && matches(message));
    if (found) return found;
  }
  return null;
}

function isResponse(message) {
  if (message.jsonrpc !== '2.0' || message.method !== undefined) return false;
  return isObject(message.error) !== isObject(message.result);
}

function isObject(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}
