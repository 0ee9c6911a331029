"""The stage that reports a run: compares, writes, posts and announces it."""
