// What a VU measured in an interval of the run: histograms and counts, named like k6's series. They are
// printed into the log, so that they can be added up over VUs, runners and intervals, which is not possible
// with percentiles.
import { intervalMs, isOneOfSeveral } from './env.js';
import { logHistograms } from './log.js';

const INTERVAL_MS = intervalMs();
// One of several runners prints more often: it is watched by its log, and a lost one loses less.
const PERIOD_MS = isOneOfSeveral() ? 30000 : Infinity;
const MIN_MS = 0.001;
// Bucket i holds durations from 1.01^i ms to 1.01^(i+1) ms: its middle is off by at most 0.5 %.
const PER_BUCKET = 1 / Math.log(1.01);
const [log, floor] = [Math.log, Math.floor];

class Histogram {
  constructor() {
    this.max = 0;
    this.buckets = new Map();
  }

  // [maximum, bucket, count, distance to the next bucket, count, …]
  list() {
    const listed = [this.max];
    let last = 0;
    for (const bucket of Array.from(this.buckets.keys()).sort((a, b) => a - b)) {
      listed.push(bucket - last, this.buckets.get(bucket));
      last = bucket;
    }
    return listed;
  }
}

// The samples of one selector, such as `stage:10`; an empty selector is the whole scenario.
class Series {
  constructor(selector) {
    this.selector = selector;
    this.trends = {};
    this.counts = {};
  }

  add(metric, ms) {
    const histogram = this.trends[metric] || (this.trends[metric] = new Histogram());
    if (ms > histogram.max) histogram.max = ms;
    const bucket = floor(log(ms > MIN_MS ? ms : MIN_MS) * PER_BUCKET);
    histogram.buckets.set(bucket, (histogram.buckets.get(bucket) || 0) + 1);
  }

  count(metric, reason = '', more = 1) {
    const series = this.name(metric, reason && `reason:${reason}`);
    this.counts[series] = (this.counts[series] || 0) + more;
  }

  name(metric, more = '') {
    const inner = [this.selector, more].filter((part) => part !== '').join();
    return inner === '' ? metric : `${metric}{${inner}}`;
  }

  // Moves everything into `trends` and `counts`.
  moveTo(trends, counts) {
    for (const [metric, histogram] of Object.entries(this.trends)) {
      trends[this.name(metric)] = histogram.list();
    }
    Object.assign(counts, this.counts);
    this.trends = {};
    this.counts = {};
  }
}

class Histograms {
  constructor() {
    this.serial = 0; // number of the printed line: a line that is read twice counts once
    this.origin = 0; // of the first interval, on the clock of the run
    this.interval = 0; // that the next samples belong to
    this.due = -Infinity; // when the next line is due
    this.whole = new Series('');
    this.known = new Map([['', this.whole]]);
    this.current = this.whole; // gets the next samples
  }

  select(selector) {
    let series = this.known.get(selector);
    if (series === undefined) this.known.set(selector, (series = new Series(selector)));
    this.current = series;
    return series;
  }

  // The run began at `began`, in ms since the epoch; `now` is on its clock.
  begin(began, now) {
    this.origin = now - (Date.now() - began);
    this.turn(now);
  }

  // Samples belong to the interval in which their call was sent. Call it before each; returns when the next
  // line is due.
  turn(now) {
    if (now < this.due) return this.due;
    this.print();
    this.interval = Math.max(0, floor((now - this.origin) / INTERVAL_MS));
    this.due = Math.min(this.origin + (this.interval + 1) * INTERVAL_MS, now + PERIOD_MS);
    return this.due;
  }

  print() {
    const [trends, counts] = [{}, {}];
    for (const series of this.known.values()) series.moveTo(trends, counts);
    if (Object.keys(trends).length + Object.keys(counts).length === 0) return;
    this.serial += 1;
    logHistograms({ vu: __VU, serial: this.serial, interval: this.interval, trends, counts });
  }
}

// The histograms of this VU.
export const histograms = new Histograms();
