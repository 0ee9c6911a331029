"""Print to a terminal: the lines of stages, without secrets and foreign control sequences."""

import os
import re
from collections.abc import Iterable
from typing import Any, TextIO, cast

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from loadtest.common.redaction import redact

_SIZE = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


class Console(rich.console.Console):
    """A console that prints only its own control sequences, never those in a server's text.

    A COLUMNS or LINES that is no size of a terminal is removed, because rich may fail on it.
    """

    def __init__(self, **options: Any) -> None:
        for name in ("COLUMNS", "LINES"):
            if not _SIZE.fullmatch(os.environ.get(name, "")):
                os.environ.pop(name, None)
        super().__init__(**options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments to print."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(strip_controls(segment.text), segment.style)


class _RedactingStream:
    """A stream that redacts what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def open_redacting(stream: TextIO) -> TextIO:
    """Return a stream that writes to this one and redacts secrets."""
    return cast(TextIO, _RedactingStream(stream))


def open_plain(stream: TextIO) -> TextIO:
    """Return the stream itself, for output that must show a secret."""
    return stream.stream if isinstance(stream, _RedactingStream) else stream


def strip_controls(text: str) -> str:
    """Return text that cannot control a terminal: no escape, control or bidi character."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)


def say(console: rich.console.Console, stage: str, text: str) -> None:
    """Print one line: the stage in bold, then the text unchanged, without wrapping or markup."""
    console.print(f"{stage:<11}", end=" ", style="bold", markup=False, highlight=False)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
