// Cold start: each iteration is a brand-new session on a brand-new connection.
import * as env from './lib/env.js';
import { recordCall, recordClosed, recordEnd, recordOpened } from './lib/metrics.js';
import { OK } from './lib/outcome.js';
import { CALL_LIMIT_MS, buildOptions, clock, newSession, probe } from './lib/run.js';
import { buildSummary } from './lib/summary.js';
import exec from 'k6/execution';

const [CONNECT, INITIALIZE, LIST, FIRST] = ['connect', 'initialize', 'tools/list', 'first dispatch']
  .map((frame) => ({ frame }));
const iterations = env.wholeNumber('ITERATIONS');
const vus = Math.min(env.wholeNumber('VUS'), iterations);
const maxDuration = `${env.seconds('MAX_SECONDS', 600)}s`;

export const options = buildOptions(
  { cold_start: { executor: 'shared-iterations', vus, iterations, maxDuration, gracefulStop: '0s' } },
  [CONNECT, INITIALIZE, LIST, FIRST].map(({ frame }) => `frame:${frame}`),
);
export const setup = probe;
export const handleSummary = buildSummary('cold-start', []);

export default function coldStart({ began }) {
  const start = clock();
  const session = newSession(exec.scenario.iterationInTest);
  let outcome = session.open(CALL_LIMIT_MS, (answer, { status, timings }) => {
    recordCall(status > 0 ? OK : answer, CONNECT, timings.blocked);
    recordCall(answer, INITIALIZE, timings.duration);
  });
  recordOpened(session);
  if (outcome === OK) {
    outcome = session.list(CALL_LIMIT_MS);
    recordCall(outcome, LIST, session.response.timings.duration);
  }
  recordCall(outcome, FIRST, clock() - start);
  recordClosed(session, session.close(CALL_LIMIT_MS));
  recordEnd(Date.now() - began);
}
