// Think times follow their distribution and are the same in every run; long calls are counted.
import { check } from 'k6';
import { recordBeyond } from '../../../k6/lib/metrics.js';
import { buildThinkTime, findRate, parsePace } from '../../../k6/lib/pace.js';

export const options = {
  thresholds: {
    checks: ['rate==1'],
    'mcp_beyond{reason:60_s}': ['count==2'],
    'mcp_beyond{reason:120_s}': ['count==1'],
  },
};

const COUNT = 20000;
const draw = (text, turn = 0, count = COUNT) => {
  const think = buildThinkTime(parsePace(text), turn);
  return Array.from({ length: count }, think).sort((a, b) => a - b);
};
const mean = (times) => times.reduce((sum, ms) => sum + ms, 0) / times.length;
const near = (found, wanted) => Math.abs(found / wanted - 1) < 0.03;

export default function pace() {
  for (const text of ['exponential:10', 'uniform:5,15', 'log-normal:10,0.5', 'burst:4,10']) {
    const wanted = parsePace(text).mean * 1000;
    check(draw(text), { [`${text} has its mean`]: (times) => near(mean(times), wanted) });
    const [first] = [draw(text, 7, 50).join()];
    check(draw(text, 7, 50).join(), { 'a session draws the same in every run': (it) => it === first });
  }
  check(draw('exponential:10'), {
    'half of exponential times are below ln 2': (times) => near(times[COUNT / 2], 10000 * Math.LN2),
  });
  check(draw('log-normal:10,0.5'), {
    'a log-normal time has its median': (times) => near(times[COUNT / 2], 10000),
    'and its sigma': (times) => near(times[COUNT * 0.8413], 10000 * Math.exp(0.5)),
  });
  check(draw('uniform:5,15'), {
    'uniform times have limits': (times) => times[0] >= 5000 && times[COUNT - 1] <= 15000,
  });
  const other = draw('exponential:10', 1, 50).join();
  check(draw('exponential:10', 2, 50).join(), { 'another session draws others': (it) => it !== other });
  check(parsePace('burst:4,10'), {
    'a burst has calls per round': ({ calls, mean: pause }) => calls === 4 && pause === 10,
    'its rate is that of whole cycles': (it) => findRate(it, 1, 120, 2000) === 40 / 120,
    'slower rounds make a lower rate': (it) => findRate(it, 8, 120, 2000) > findRate(it, 8, 120, 9000),
  });
  for (const text of ['', 'often', 'exponential:', 'exponential:0', 'uniform:a,b', 'burst:4,0', 'toString:1']) {
    check(parsePace(text), { [`'${text}' is not a pace`]: (it) => it === null });
  }
  for (const ms of [59999, 60000, 60001, 120001]) recordBeyond(ms);
}
