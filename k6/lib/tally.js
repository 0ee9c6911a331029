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

  add(ms) {
    if (ms > this.most) this.most = ms;
    const bucket = floor(log(ms > LEAST_MS ? ms : LEAST_MS) * PER_BUCKET);
    this.buckets.set(bucket, (this.buckets.get(bucket) || 0) + 1);
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

class Tally {
  constructor() {
    this.serial = 0; // of this VU's tallies: one that is read twice counts once
    this.selector = ''; // of the series that is added to
    this.due = Infinity; // when it tells again
    this.clear();
  }

  clear() {
    this.trends = new Map();
    this.counts = new Map();
  }

  add(metric, ms, selector = this.selector) {
    const series = selector === '' ? metric : `${metric}{${selector}}`;
    let histogram = this.trends.get(series);
    if (histogram === undefined) this.trends.set(series, (histogram = new Histogram()));
    histogram.add(ms);
  }

  count(metric, reason, selector = this.selector) {
    const series = `${metric}{${selector}${selector && ','}reason:${reason}}`;
    this.counts.set(series, (this.counts.get(series) || 0) + 1);
  }

  // `share`, from 0 to 1, is the VU's place in a period: not all tell at one time.
  begin(now, selector, share) {
    this.selector = selector;
    this.due = now + EVERY_MS * share;
  }

  tellIfDue(now) {
    if (now < this.due) return;
    this.due += EVERY_MS;
    this.tell();
  }

  tell() {
    if (this.trends.size + this.counts.size === 0) return;
    const trends = {};
    for (const [series, histogram] of this.trends) trends[series] = histogram.list();
    const counts = Object.fromEntries(this.counts);
    this.serial += 1;
    journalTally({ vu: __VU, serial: this.serial, trends, counts });
    this.clear();
  }
}

// Of this VU; null where k6 runs alone and sums up exactly by itself.
export const tally = tells() ? new Tally() : null;
