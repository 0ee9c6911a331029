// Names each session in k6's log as it opens and closes: what an abort leaves can be closed by its id.

export function journalOpened({ sessionId, protocol, bearer }) {
  const { client = 0 } = bearer || {};
  console.log(`session opened ${sessionId} ${client} ${protocol}`);
}

export function journalClosed({ sessionId }) {
  console.log(`session closed ${sessionId}`);
}
