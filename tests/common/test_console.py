"""What a terminal gets: no control sequences from a server, and no secret."""

import io
import re
import secrets

import pytest
from rich.table import Table
from rich.text import Text

from loadtest.common.console import Console, open_plain, open_redacting, say, strip_controls
from loadtest.common.redaction import learn

STEERING = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202edone\r\x00\x7f"
# Colours, which are the console's own.
STYLES = re.compile(r"\x1b\[[\d;]*m")


def table(words: str) -> Table:
    made = Table("what", words)
    made.add_row(words, Text(words, "red"))
    return made


@pytest.mark.parametrize("make", [str, Text, table])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_text_from_a_server_cannot_print_control_sequences(make: object, is_terminal: bool) -> None:
    assert callable(make)
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=is_terminal, width=200)
    console.print(make(f"one {STEERING} two"))
    say(console, "mint", f"one {STEERING} two")
    left = STYLES.sub("", shown.getvalue())
    assert "owned" in left
    assert left.replace("\n", "").isprintable(), left
    assert (STYLES.search(shown.getvalue()) is not None) == is_terminal


def test_text_keeps_its_lines_and_tabs() -> None:
    assert strip_controls("a\tb\nc\x1bd · é …") == "a\tb\nc d · é …"


def test_only_a_plain_stream_prints_a_secret() -> None:
    secret, shown = secrets.token_hex(12), io.StringIO()
    learn(secret)
    stream = open_redacting(shown)
    print(f"said {secret}", file=stream)
    stream.writelines([f"{secret}\n"])
    print(f"meant {secret}", file=open_plain(stream))
    assert shown.getvalue() == f"said ***\n***\nmeant {secret}\n"
    assert open_plain(shown) is shown
    assert stream.isatty() is False


@pytest.mark.parametrize("size", ["9" * 5000, "²", "0", "-1", "x"])
def test_a_size_that_no_terminal_has_is_ignored(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("COLUMNS", size)
    monkeypatch.setenv("LINES", size)
    assert Console(file=io.StringIO()).size.width > 1
    monkeypatch.setenv("COLUMNS", "120")
    assert Console(file=io.StringIO()).size.width == 120
