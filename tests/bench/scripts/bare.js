// The smallest k6 script: posts a constant body and checks the status.
import http from 'k6/http';

export const options = { vus: Number(__ENV.VUS), duration: `${__ENV.DURATION}s` };

const headers = {
  Authorization: 'Bearer none',
  'Content-Type': 'application/json',
  Accept: 'application/json, text/event-stream',
};
const body = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'listEntities', arguments: {} },
});

export default function call() {
  const { status } = http.post(__ENV.MCP_URL, body, { headers });
  if (status !== 200) throw new Error(`status ${status}`);
}

export function handleSummary({ metrics }) {
  return { [__ENV.SUMMARY_FILE]: JSON.stringify(metrics.http_reqs.values) };
}
