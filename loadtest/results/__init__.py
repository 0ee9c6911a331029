"""One run on disk, and what the history stores of earlier runs."""
