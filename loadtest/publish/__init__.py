"""The stage that reports a run: prepared, written, posted, announced."""
