"""An environment's own patterns of refusals."""

import tomllib

import pytest
from pydantic import ValidationError

from loadtest.config.refusals import RefusalPattern, describe_patterns


def parse(text: str) -> RefusalPattern:
    return RefusalPattern.model_validate(tomllib.loads(text))


def test_a_pattern_has_what_is_given_and_single_values_become_lists() -> None:
    text = 'reason = "rate_limited"\nstatus = 403\nheaders = { "X-Left" = "^0$" }\ncode = [-1, -2]'
    expected = {
        "reason": "rate_limited",
        "status": [403],
        "headers": {"x-left": "^0$"},
        "code": [-1, -2],
    }
    assert parse(text).export() == expected
    assert describe_patterns(()) is None
    assert describe_patterns([parse(text)]) == (
        "rate_limited: status [403], headers {'x-left': '^0$'}, code [-1, -2]"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the pattern matches every answer: it needs status"),
        ('headers = { Date = "." }', "the pattern matches every answer: it needs status"),
        ('text = ".*"', "text = '.*' matches every answer"),
        ('text = "a*"', "text = 'a*' matches every answer"),
        ('text = "[a-z]"', "text = '[a-z]' matches every answer"),
        ("status = [200, 503]", "status 200 alone matches every tool error"),
        ('text = "full("', "'full(' is not a regular expression: "),
        ('headers = { X-Left = "[" }', "'[' is not a regular expression: "),
        ('text = "(?i)full"', "'(?i)full' is not a regular expression of JavaScript: (?i)"),
        (r"text = '\Afull'", r"is not a regular expression of JavaScript: \A"),
        ('text = "(?P<n>full)"', "is not a regular expression of JavaScript: (?P"),
        ("status = 99", "greater than or equal to 200"),
        ("texts = 1", "Extra inputs are not permitted"),
        ('headers = { "X Left" = "0" }', "should match pattern"),
    ],
)
def test_a_pattern_that_is_too_wide_or_wrong_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValidationError) as failure:
        parse(f'reason = "capacity"\n{text}')
    assert fault in str(failure.value)
