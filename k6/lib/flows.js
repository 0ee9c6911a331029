// Flows: chains of calls in which an argument is taken from an earlier answer.
import * as env from './env.js';
import { findValues } from './json_path.js';
import { buildCall } from './mcp.js';
import { recordFlow } from './metrics.js';
import { NO_ARGUMENT, OK } from './outcome.js';
import { readAnswer } from './reply.js';

const USED = env.toolPools().some(({ kind }) => kind === 'flow');

// In place of the response to a call that was not made.
const TIMINGS = { duration: 0, blocked: 0, waiting: 0, receiving: 0 };
const UNSENT = { status: 0, body: null, headers: {}, timings: TIMINGS };

// Returns the name and kind of each row of these pools: the steps of a flow come before the flow.
export function listRows(pools) {
  return pools.flatMap(({ tool, kind, steps = [] }) =>
    steps.map(({ step }) => ({ tool: `${tool}/${step}`, kind: 'step' })).concat({ tool, kind }),
  );
}

// Makes a client able to call the steps of flows. Without flows, its calls stay as they are.
export function followSteps(client) {
  if (!USED) return client;
  const call = client.call.bind(client);
  client.call = (each, timeoutMs) =>
    each.flow === undefined ? call(each, timeoutMs) : each.flow.make(client, call, timeoutMs);
  return client;
}

// One flow of one session. `pick` chooses from a list; `drawAll` returns a function that draws the
// arguments of a call, or null if nothing in them is drawn.
export class Flow {
  constructor({ tool, steps, limitMs }, protocol, pick, drawAll) {
    this.name = tool;
    this.limitMs = limitMs; // of each call
    this.protocol = protocol;
    this.pick = pick;
    this.steps = steps.map(({ step, kind, target, arguments: all, mirrored }) => ({
      step,
      // Its entry is called after its row.
      entry: { tool: `${tool}/${step}`, kind, target, uri: target, prompt: target, mirrored },
      fills: all.map((args) => [args, drawAll(args)]),
      isNeeded: JSON.stringify(steps).includes(JSON.stringify({ $step: step }).slice(1, -1)),
    }));
    this.answers = {};
    this.place = 0; // of the next step; after the last one, or a failure, there is none
    this.ms = 0;
    this.missing = null; // the reference that found nothing
  }

  begin() {
    this.answers = {};
    this.place = this.ms = 0;
    return this;
  }

  hasEnded() {
    return this.place >= this.steps.length;
  }

  // Returns the next step as a call, which is built only when it is made.
  next() {
    return { tool: this.steps[this.place].entry.tool, limitMs: this.limitMs, flow: this };
  }

  // Calls the next step, unless one of its arguments is not there.
  make(client, call, timeoutMs) {
    const { step, entry, fills, isNeeded } = this.steps[this.place];
    const [args, draw] = this.pick(fills);
    this.missing = null;
    const filled = this.fill(draw === null ? args : draw());
    let outcome = NO_ARGUMENT;
    if (this.missing === null) {
      outcome = call(buildCall(this.protocol, entry, filled), timeoutMs);
      this.ms += client.response.timings.duration;
    } else {
      client.select({ tool: entry.tool, rpc: client.called });
      client.response = UNSENT;
    }
    if (outcome === OK && isNeeded) this.answers[step] = readDocument(client);
    this.place = outcome === OK ? this.place + 1 : this.steps.length;
    if (this.hasEnded()) recordFlow(this.name, outcome, this.ms);
    return outcome;
  }

  // Returns which reference found nothing, and in what.
  describeMissing() {
    const { $step: step, text } = this.missing;
    return `${text} finds nothing in the answer of step ${step}: ${JSON.stringify(this.answers[step])}`;
  }

  fill(value) {
    if (value === null || typeof value !== 'object') return value;
    if (value.$step !== undefined) {
      const found = findValues(this.answers[value.$step], value.path);
      if (found.length === 0) this.missing = value;
      return this.pick(found);
    }
    if (Array.isArray(value)) return value.map((inner) => this.fill(inner));
    const filled = {};
    for (const key of Object.keys(value)) filled[key] = this.fill(value[key]);
    return filled;
  }
}

// Returns what paths are followed in: the structured content, else the first text, as JSON if it is that,
// else the result.
function readDocument({ response, id }) {
  const { result } = readAnswer(response, id);
  if (result.structuredContent) return result.structuredContent;
  const parts = result.content || result.contents;
  const first = Array.isArray(parts) && parts.find((part) => part && typeof part.text === 'string');
  if (!first) return result;
  try {
    return JSON.parse(first.text);
  } catch (_) {
    return first.text;
  }
}
