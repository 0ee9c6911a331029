"""Check before a run that everything it needs is there; say how to get what is missing."""
