// Lines that the scripts add to k6's log: each session as it opens and closes, so that sessions left by
// an abort can be closed by their ids, the slowest calls, and the histograms of the VUs.

export function logOpened({ sessionId, protocol, bearer }) {
  const { client = 0 } = bearer || {};
  console.log(`session opened ${sessionId} ${client} ${protocol}`);
}

export function logClosed({ sessionId }) {
  console.log(`session closed ${sessionId}`);
}

export function logSlow(calls) {
  console.log(`slow calls ${JSON.stringify(calls)}`);
}

export function logHistograms(snapshot) {
  console.log(`histograms ${JSON.stringify(snapshot)}`);
}
