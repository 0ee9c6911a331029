"""How long tests wait."""

# A process that takes longer hangs: on a busy machine, what takes seconds may take minutes.
HANG_SECONDS = 240.0
