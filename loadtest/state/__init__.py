"""The private files of `.loadtest/<environment>`, a module for each."""
