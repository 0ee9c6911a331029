// Samples whose percentiles are known: all are 100 ms.
import { Trend } from 'k6/metrics';

const duration = new Trend('mcp_duration', true);

export const options = { vus: 2, iterations: 1000 };

export default function always() {
  duration.add(100);
}
