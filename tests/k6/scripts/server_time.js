// What the header Server-Timing says; the first examples are those of the W3C.
import { check } from 'k6';
import { readServerTime } from '../../../k6/lib/server_time.js';

export const options = { thresholds: { checks: ['rate==1'] } };

const CASES = [
  ['miss, db;dur=53, app;dur=47.2', 53],
  ['customView, dc;desc=atl', null],
  ['cache;desc="Cache Read";dur=23.2', 23.2],
  ['total;dur=123.4', 123.4],
  ['db;dur=53, total;dur=40', 40],
  ['Total;DUR=40', 40],
  ['total, db;dur=53', 53],
  ['total;dur=0', 0],
  ['total;dur=1000', 1000],
  ['total;dur=1001', null],
  ['total;dur=-1', null],
  ['total;dur=1e3', null],
  ['total;dur=Infinity', null],
  ['db;desc="a, total;dur=9";dur=5', 5],
  ['db;desc="open, total;dur=9', null],
  ['', null],
  [undefined, null],
  [`${'x,'.repeat(1e5)}total;dur=1`, null],
];

export default function serverTime() {
  for (const [text, expected] of CASES) {
    const found = readServerTime(text === undefined ? {} : { 'Server-Timing': text }, 1000);
    check(found, { [`${String(text).slice(0, 40)}: ${found}`]: (it) => it === expected });
  }
}
