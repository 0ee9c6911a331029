"""The last stage: the `TBD` cells of a performance page become links."""
