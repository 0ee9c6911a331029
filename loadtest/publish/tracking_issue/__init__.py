"""The tracking issue: it contains every run's comment and so the history."""
