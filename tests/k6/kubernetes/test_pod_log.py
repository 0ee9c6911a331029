"""A log that arrives in several streams: whole lines, each once."""

from pathlib import Path

import pytest

from loadtest.k6.kubernetes.pod_log import PodLog

FIRST = b"2026-11-26T12:00:00.000000001Z one\n"
SAME = b"2026-11-26T12:00:00.000000001Z another of that moment\n"
NEXT = b"2026-11-26T12:00:00.000000002Z two \xe2\x80\xa8 and a half\n"


@pytest.mark.parametrize(
    "streams",
    [
        [[FIRST + SAME + NEXT]],
        [[FIRST], [FIRST + SAME + NEXT]],
        [[FIRST, SAME], [FIRST + SAME, NEXT]],
        [[FIRST + SAME[:40]], [FIRST + SAME + NEXT[:5]], [SAME[:0], FIRST + SAME + NEXT]],
        [[FIRST + SAME + NEXT], [NEXT], []],
        [[bytes([byte]) for byte in FIRST + SAME + NEXT]],
    ],
)
def test_lines_are_copied_whole_and_once_wherever_a_stream_is_cut(
    tmp_path: Path, streams: list[list[bytes]]
) -> None:
    path = tmp_path / "k6.log"
    with PodLog(path) as log:
        for stream in streams:
            log.append(stream)
        assert log.stamp == "2026-11-26T12:00:00.000000002Z"
    assert path.read_bytes() == b"one\nanother of that moment\ntwo \xe2\x80\xa8 and a half\n"
