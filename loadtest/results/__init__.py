"""One run on disk, and what is remembered of earlier runs."""
