// What a VU has seen since it last told, by the names of k6's series: histograms and counts. Runners of
// a fleet print it, and theirs are added up; percentiles could not be.
import { tells } from './env.js';
import { journalTally } from './journal.js';

const EVERY_MS = 30000; // what a lost runner takes with it
const LEAST_MS = 0.001;
// Bucket i holds durations from 1.01^i ms up to 1.01^(i+1): its middle is off by half a percent at most.
const PER_BUCKET = 1 / Math.log(1.01);
const [log, floor] = [Math.log, Math.floor];

class Histogram {
  constructor() {
    this.most = 0;
    this.buckets = new Map();
  }

  // [longest, bucket, count, buckets to the next, count, …]
  list() {
    const listed = [this.most];
    let last = 0;
    for (const bucket of Array.from(this.buckets.keys()).sort((a, b) => a - b)) {
      listed.push(bucket - last, this.buckets.get(bucket));
      last = bucket;
    }
    return listed;
  }
}

// What belongs to one selector, such as `stage:10`; to the whole scenario with an empty one.
class Series {
  constructor(selector) {
    this.selector = selector;
    this.trends = {};
    this.counts = {};
  }

  add(metric, ms) {
    const histogram = this.trends[metric] || (this.trends[metric] = new Histogram());
    if (ms > histogram.most) histogram.most = ms;
    const bucket = floor(log(ms > LEAST_MS ? ms : LEAST_MS) * PER_BUCKET);
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

  // Hands over what there is.
  take(trends, counts) {
    for (const [metric, histogram] of Object.entries(this.trends)) {
      trends[this.name(metric)] = histogram.list();
    }
    Object.assign(counts, this.counts);
    this.trends = {};
    this.counts = {};
  }
}

class Tally {
  constructor() {
    this.serial = 0; // of this VU's tallies: one that is read twice counts once
    this.due = Infinity; // when it tells again
    this.whole = new Series('');
    this.known = new Map([['', this.whole]]);
    this.current = this.whole; // what is added to
  }

  select(selector) {
    let series = this.known.get(selector);
    if (series === undefined) this.known.set(selector, (series = new Series(selector)));
    this.current = series;
    return series;
  }

  // `share`, from 0 to 1, is the VU's place in a period: not all tell at one time.
  begin(selector, now, share) {
    this.select(selector);
    this.due = now + EVERY_MS * share;
  }

  tellIfDue(now) {
    if (now < this.due) return;
    this.due += EVERY_MS;
    this.tell();
  }

  tell() {
    const [trends, counts] = [{}, {}];
    for (const series of this.known.values()) series.take(trends, counts);
    if (Object.keys(trends).length + Object.keys(counts).length === 0) return;
    this.serial += 1;
    journalTally({ vu: __VU, serial: this.serial, trends, counts });
  }
}

// Of this VU; null where k6 runs alone and sums up exactly by itself.
export const tally = tells() ? new Tally() : null;
