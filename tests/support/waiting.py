"""How long tests wait."""

# A process that needs longer hangs: on a busy machine, seconds can become minutes.
HANG_SECONDS = 240.0
