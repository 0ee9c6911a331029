"""The tracking issue: where every run's comment lies, and with it the history."""
