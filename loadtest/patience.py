"""How a 429 is waited out, by everything of ours that asks a server over HTTP."""

# Windows are a minute long on many servers, and Retry-After is missing or nonsense on some.
RATE_WAITS_SECONDS = (5.0, 15.0, 20.0, 30.0)
LONGEST_WAIT_SECONDS = 90


def parse_retry_after(text: str | None) -> float | None:
    """Return a believable Retry-After in seconds (RFC 9110, section 10.2.3), else None."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 4:
        return None
    return float(text) if 1 <= int(text) <= LONGEST_WAIT_SECONDS else None
