"""JSONPath: what is read, and what is refused."""

from typing import Any

import pytest

from loadtest.config.json_path import parse_json_path


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("$", []),
        ("$.a.b-c", [{"name": "a"}, {"name": "b-c"}]),
        ('$[\'a b\']["c\\"d"]', [{"name": "a b"}, {"name": 'c"d'}]),
        ("$['it\\'s']", [{"name": "it's"}]),
        ("$[0][-1]", [{"index": 0}, {"index": -1}]),
        ("$[ 1 : ][:2]", [{"slice": [1, None]}, {"slice": [None, 2]}]),
        ("$.*[*]", [{"all": True}, {"all": True}]),
        ("$..id", [{"name": "id", "deep": True}]),
        ("$..[0]", [{"index": 0, "deep": True}]),
        ("$..*", [{"all": True, "deep": True}]),
        ("$.größe", [{"name": "größe"}]),
    ],
)
def test_a_path_is_read_into_segments(text: str, segments: list[dict[str, Any]]) -> None:
    assert parse_json_path(text) == segments


@pytest.mark.parametrize(
    "text",
    ["", "a", "$a", "$.", "$..", "$[", "$[]", "$['a'", "$['\\x']", "$.1a", "$. a", "$[01]", "@.a"],
)
def test_what_is_not_a_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a (JSONPath|name)"):
        parse_json_path(text)


@pytest.mark.parametrize("text", ["$[0,1]", "$[0:2:2]", "$[?@.a]", "$.a()", "$ .a"])
def test_what_a_path_may_have_elsewhere_is_refused_with_what_is_known(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a JSONPath of \.name, \['name'\], \[0\]"):
        parse_json_path(text)
