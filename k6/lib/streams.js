// The stream that a session holds open beside its calls, as real clients do. k6 shows a stream only when it has
// ended, so everything about it is recorded after its session.
import { recordStream, recordStreamFailure } from './metrics.js';
import { NO_STREAMS, OK, classifyStream, hasTimedOut, isCancelled } from './outcome.js';
import { clock } from './run.js';

const LEEWAY_MS = 500; // a stream that ends this shortly before its session does not end early
const LEAST_OPEN_MS = 100; // headers that come this shortly before the end come because of it

// Opens the stream of a session that has just opened. DELETE ends the stream together with its session; the
// client ends a stream without a session at `end`, and any other one at `last`.
export function holdStream(session, { end, last, selector }) {
  const begin = clock();
  const endsItself = session.sessionId === null;
  const limitMs = (endsItself ? end : last) - begin;
  if (limitMs < 1) return;
  const closedAt = endsItself ? end : Infinity;
  const stream = { begin, selector, closedAt, isDeleted: false, hasSession: !endsItself };
  session.stream = stream;
  session.listen(limitMs).then((response) => recordEnd(stream, response));
}

// Notes that a session ends now, or ended then. `isDeleted`: the server has deleted it.
export function releaseStream({ stream }, at, isDeleted = false) {
  if (stream === null) return;
  stream.closedAt = Math.min(stream.closedAt, at);
  stream.isDeleted = isDeleted;
}

function recordEnd({ begin, selector, closedAt, isDeleted, hasSession }, response) {
  if (isCancelled(response)) return;
  const outcome = classifyStream(response, hasSession);
  if (outcome !== OK) {
    recordStreamFailure(selector, outcome === NO_STREAMS ? null : outcome);
    return;
  }
  const { blocked, duration, waiting, receiving } = response.timings;
  const livedMs = blocked + duration;
  const isOurs = hasTimedOut(response);
  const parts = (response.body || '').split(/\r?\n\r?\n/).filter((part) => part.trim() !== '');
  const isOpen = response.body !== null && receiving >= LEAST_OPEN_MS;
  recordStream(selector, {
    openMs: isOpen ? waiting : null,
    livedMs,
    silenceMs: livedMs / (parts.length + 1),
    keepAlives: parts.filter((part) => part.trim().startsWith(':')).length,
    isEarly: !isOurs && begin + livedMs < closedAt - LEEWAY_MS,
    stays: isOurs && isDeleted,
  });
}
