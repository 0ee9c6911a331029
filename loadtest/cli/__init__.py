"""Additions to Invoke: shared options, help texts, one-line errors, JSON output."""
