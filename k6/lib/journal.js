// What k6's log says beside k6: each session as it opens and closes, so that what an abort leaves can be
// closed by its id, and what the VUs of a fleet have seen.

export function journalOpened({ sessionId, protocol, bearer }) {
  const { client = 0 } = bearer || {};
  console.log(`session opened ${sessionId} ${client} ${protocol}`);
}

export function journalClosed({ sessionId }) {
  console.log(`session closed ${sessionId}`);
}

export function journalTally(tally) {
  console.log(`tally ${JSON.stringify(tally)}`);
}
