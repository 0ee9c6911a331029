"""The tracking issue: it has a comment for every run, and these comments are the history."""
