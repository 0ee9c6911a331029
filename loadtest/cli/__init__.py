"""What Invoke lacks: shared options, help texts, one-line errors, JSON output."""
