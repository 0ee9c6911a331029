// What a VU measured since its last line in the log: histograms and counts, named like k6's series.
// Several runners print them so that they can be added up, which is not possible with percentiles.
import { printsHistograms } from './env.js';
import { logHistograms } from './log.js';

const PERIOD_MS = 30000; // a lost runner loses what it measured in this time
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

  count(metric, reason) {
    const series = this.name(metric, `reason:${reason}`);
    this.counts[series] = (this.counts[series] || 0) + 1;
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
    this.due = Infinity; // when the next line is due
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

  // `share`, from 0 to 1, is the VU's place in a period, so that VUs do not print all at once.
  begin(selector, now, share) {
    this.select(selector);
    this.due = now + PERIOD_MS * share;
  }

  printIfDue(now) {
    if (now < this.due) return;
    this.due += PERIOD_MS;
    this.print();
  }

  print() {
    const [trends, counts] = [{}, {}];
    for (const series of this.known.values()) series.moveTo(trends, counts);
    if (Object.keys(trends).length + Object.keys(counts).length === 0) return;
    this.serial += 1;
    logHistograms({ vu: __VU, serial: this.serial, trends, counts });
  }
}

// The histograms of this VU; null if k6 runs alone, because its own summary is exact.
export const histograms = printsHistograms() ? new Histograms() : null;
