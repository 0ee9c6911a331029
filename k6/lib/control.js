// The control: one VU asks for a static document of the target's origin at a low, fixed rate, each time over
// a new connection. If it becomes slow together with the calls, the cause is the network or the host.
import exec from 'k6/execution';
import http from 'k6/http';
import * as env from './env.js';
import { histograms } from './histograms.js';
import { recordControl } from './metrics.js';
import { OK, classifyPlain } from './outcome.js';
import { clock, waitUntil } from './run.js';

const RATE = env.controlRate();
const URL = env.controlUrl();
const LIMIT_MS = 5000; // of one request
const LOOK_MS = 100; // between two looks whether all other VUs have ended
const PARAMS = {
  headers: { ...env.extraHeaders(), Connection: 'close' },
  tags: { name: 'control', rpc: 'control' },
  timeout: LIMIT_MS,
  responseType: 'none',
};

let lastsMs = Infinity;

// Returns the scenario of the control, none if there is no control. Without `seconds`, it ends as soon as no
// other VU is active. It is stopped after `maxSeconds`.
export function buildControl(maxSeconds, seconds = Infinity) {
  if (RATE === null) return {};
  lastsMs = seconds * 1000;
  const maxDuration = `${Math.round(maxSeconds * 1000)}ms`;
  const scenario = { executor: 'per-vu-iterations', vus: 1, iterations: 1, maxDuration, gracefulStop: '0s' };
  return { control: { ...scenario, exec: 'control' } };
}

export function control({ began }) {
  histograms.begin(began, clock());
  const end = clock() + lastsMs;
  const everyMs = 1000 / RATE;
  for (let due = clock(); due < end && waitWhileOthersRun(due); due = Math.max(due + everyMs, clock())) {
    histograms.turn(clock());
    const response = http.get(URL, PARAMS);
    const { status, timings } = response;
    const outcome = classifyPlain(response);
    const connectMs = status > 0 ? timings.connecting + timings.tls_handshaking : 0;
    recordControl(outcome === OK && status !== 200 ? 'http_other' : outcome, timings.duration, connectMs);
  }
  histograms.print();
}

// Returns whether other VUs still run at this moment.
function waitWhileOthersRun(moment) {
  while (clock() < moment && !isAlone()) waitUntil(Math.min(moment, clock() + LOOK_MS));
  return !isAlone();
}

// Between two stages of a ladder no other VU is active either.
function isAlone() {
  const { iterationsCompleted, vusActive } = exec.instance;
  return lastsMs === Infinity && iterationsCompleted > 0 && vusActive < 2;
}
