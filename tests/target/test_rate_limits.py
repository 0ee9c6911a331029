"""RateLimit headers as servers and vendors send them."""

import pytest

from loadtest.target.rate_limits import read_rate_limits

NINE = "a limit of 9 calls, reset in {} s"
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "policy", "text"),
    [
        # draft-ietf-httpapi-ratelimit-headers, version 10
        (
            {"RateLimit-Policy": '"minute";q=100;w=60', "RateLimit": '"minute";r=50;t=30'},
            '"minute";q=100;w=60',
            'the limit "minute";q=100;w=60, 50 left, reset in 30 s',
        ),
        ({"ratelimit-policy": "100;w=60"}, "100;w=60", "the limit 100;w=60"),
        # version 7
        (
            {"RateLimit": "limit=100, remaining=50, reset=30"},
            "100;w=60",
            "a limit of 100 calls, 50 left, reset in 30 s",
        ),
        # versions before
        ({"RateLimit-Limit": "100, 100;w=10"}, "100, 100;w=10", "a limit of 100 calls"),
        # Buildkite
        (
            {"RateLimit-Limit": "50", "RateLimit-Remaining": "35", "RateLimit-Reset": "28"},
            "50;w=60",
            "a limit of 50 calls, 35 left, reset in 28 s",
        ),
        ({"RateLimit-Limit": "9", "RateLimit-Reset": "1"}, "9;w=1", NINE.format(1)),
        ({"RateLimit-Limit": "9", "RateLimit-Reset": "7"}, "9;w=10", NINE.format(7)),
        # GitHub: a time in seconds
        (
            {
                "X-RateLimit-Limit": "5000",
                "X-RateLimit-Remaining": "4990",
                "X-RateLimit-Reset": "1800002400",
            },
            None,
            "a limit of 5,000 calls, 4,990 left, reset in 2,400 s",
        ),
        # a time in milliseconds
        (
            {"X-Rate-Limit-Limit": "9", "x-rate-limit-reset": "1800000030000"},
            "9;w=60",
            "a limit of 9 calls, reset in 30 s",
        ),
        # a time as text is not read
        (
            {"X-RateLimit-Limit": "9", "X-RateLimit-Reset": "Thu, 01 Jan 2026 00:00:00 GMT"},
            None,
            "a limit of 9 calls",
        ),
    ],
)
def test_headers_are_read(headers: dict[str, str], policy: str | None, text: str) -> None:
    found = read_rate_limits(headers, NOW)
    assert found is not None
    assert (found.policy, found.describe()) == (policy, text)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Retry-After": "3"}, {"X-RateLimit-Reset": "3"}, {"X-RateLimit-Limit": "many"}],
)
def test_without_a_limit_nothing_is_announced(headers: dict[str, str]) -> None:
    assert read_rate_limits(headers, NOW) is None


def test_what_is_left_until_the_reset_is_compared_with_the_rate() -> None:
    headers = {"x-ratelimit-remaining": "100", "x-ratelimit-reset": "1000"}
    found = read_rate_limits(headers, NOW)
    assert found is not None
    assert not found.find_excess(1, 100)
    assert found.find_excess(1, 101)
    assert found.find_excess(0.2, 2000)
