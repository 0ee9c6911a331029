"""A runner's log, copied from its pod: whole lines, each once, even if the stream breaks off."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from loadtest.errors import K6Error


class PodLog:
    """Appends the lines of a log stream to a private file, without their timestamps.

    After an interruption the next stream starts at `stamp`; lines that were copied before are
    recognized by their timestamps. Raises K6Error if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.stamp = ""
        self._at_stamp = 0
        self._path = path
        with self._writing():
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def append(self, chunks: Iterable[bytes]) -> bool:
        """Append the lines of one stream; return whether any of them was new.

        An incomplete last line counts as new. It is not written: the next stream has it whole.
        """
        known, rest, is_new = self._at_stamp, b"", False
        resumed_at = self.stamp
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            fresh: list[bytes] = []
            for line in lines:
                stamp, _, text = line.partition(b" ")
                # The kubelet writes all timestamps in one width, so they sort as text.
                written = stamp.decode("ascii", "replace")
                if written < resumed_at:
                    continue
                if written == resumed_at and known > 0:
                    known -= 1
                    continue
                self._at_stamp = self._at_stamp + 1 if written == self.stamp else 1
                self.stamp = written
                fresh.append(text + b"\n")
            self._write(b"".join(fresh))
            is_new = is_new or bool(fresh)
        return is_new or rest != b""

    def _write(self, data: bytes) -> None:
        with self._writing():
            while data:
                data = data[os.write(self._file, data) :]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as failure:
            raise K6Error(f"{self._path} cannot be written: {failure.strerror}") from None
