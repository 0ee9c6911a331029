"""The stage that reports a run: judged, written, posted, announced."""
