// Cold start: each iteration is a new client on a new connection.
import { renewRefused } from './lib/bearers.js';
import { buildControl } from './lib/control.js';
import * as env from './lib/env.js';
import { recordClosed, recordEnd, recordFrame, recordOpened } from './lib/metrics.js';
import { OK, UNAUTHORIZED } from './lib/outcome.js';
import { CALL_LIMIT_MS, buildOptions, clock, newClient, probe, startInTurn } from './lib/run.js';
import { buildSummary } from './lib/summary.js';
import exec from 'k6/execution';

// A client sends `initialize` or `server/discover`, depending on its era.
const FRAMES = ['connect', 'initialize', 'server/discover', 'tools/list', 'first dispatch'];
const selectors = FRAMES.map((frame) => `frame:${frame}`);
const [iterations, rate] = [env.wholeNumber('ITERATIONS'), env.optionalRate('STARTS_PER_SECOND')];
const [vus, seconds] = [Math.min(env.wholeNumber('VUS'), iterations), env.seconds('MAX_SECONDS')];
const starts = { executor: 'shared-iterations', vus, iterations, maxDuration: `${seconds}s`, gracefulStop: '0s' };

export const options = buildOptions({ cold_start: starts, ...buildControl(seconds) }, selectors);
export { control } from './lib/control.js';
export const setup = probe;
export const handleSummary = buildSummary('cold-start', selectors, []);

export default function coldStart({ began, server }) {
  const start = startInTurn(began, vus, rate);
  const session = newClient(exec.scenario.iterationInTest, server.protocol);
  session.beginTrace();
  let outcome = session.open(CALL_LIMIT_MS, (answer, { status, timings }) => {
    recordFrame(status > 0 ? OK : answer, 'connect', timings.blocked);
    recordFrame(answer, session.opening, timings.duration, session);
  });
  recordOpened(session);
  if (outcome === OK) {
    outcome = session.list(CALL_LIMIT_MS);
    recordFrame(outcome, 'tools/list', session.response.timings.duration, session);
  }
  recordFrame(outcome, 'first dispatch', clock() - start);
  if (outcome === UNAUTHORIZED) renewRefused(session.bearer);
  recordClosed(session, session.close(CALL_LIMIT_MS));
  recordEnd(Date.now() - began);
}
