"""What is missing before a run, and what to do about it."""
