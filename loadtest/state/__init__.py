"""The private files of `.loadtest/<environment>`, one module per file."""
