"""A run's entry in its comment: what goes in comes out, and nothing forged does harm."""

import json
import re
import zlib
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.common.parsing import tidy_text
from loadtest.common.redaction import SecretStr
from loadtest.publish.tracking_issue.payload import (
    MOST_UNPACKED,
    PayloadError,
    decode_entry,
    encode_entry,
    find_run_id,
)
from loadtest.results.history import FIGURES, Cell, Entry
from loadtest.results.run import (
    MOST_NAME_CHARS,
    Generator,
    Percentiles,
    Replies,
    Row,
    Run,
    ScenarioResult,
    Spread,
    Target,
)
from tests.publish.tracking_issue.full_run import full_run

finite = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
# As a server's own name is read.
names = words.map(lambda text: tidy_text(text, MOST_NAME_CHARS))
counts = st.integers(0, 10**9)
knobs = st.recursive(
    st.none() | st.booleans() | counts | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
percentiles = st.builds(Percentiles, finite, finite, finite, finite, finite)
spreads = st.builds(Spread, finite, finite, finite)
replies = st.builds(Replies, counts, spreads, spreads, spreads, st.none() | spreads, counts)
rows = st.builds(
    Row,
    scenario=words,
    kind=st.sampled_from(["frame", "stage", "tool", "opening"]),
    name=words,
    count=counts,
    ok=counts,
    failures=st.dictionaries(words, counts, max_size=3),
    seconds=finite,
    offered_rate=st.none() | finite,
    achieved_rate=finite,
    duration=st.none() | percentiles,
    response=st.none() | percentiles,
    replies=st.none() | replies,
)
scenarios = st.builds(
    ScenarioResult,
    name=words,
    outcome=st.sampled_from(["ok", "failed", "not run"]),
    exit_code=st.none() | st.integers(0, 255),
    reason=st.none() | words,
    crossed=st.lists(words, max_size=2).map(tuple),
    generator=st.none() | st.builds(Generator, finite, finite, st.none() | finite),
)
runs = st.builds(
    Run,
    run_id=words.filter(bool),
    loadtest_version=words,
    started=words,
    environment=words,
    profile=words,
    knobs=st.dictionaries(words, knobs, max_size=4),
    target=st.builds(Target, host=words, server_name=st.none() | names),
    k6_version=words,
    machine=st.dictionaries(words, knobs, max_size=2),
    git_sha=st.none() | words,
    scenarios=st.lists(scenarios, max_size=3).map(tuple),
    run_url=st.none() | words,
)
cells = st.builds(Cell, words, words, words, st.sampled_from(FIGURES))
entries = st.builds(
    Entry,
    run=runs,
    rows=st.lists(rows, max_size=4).map(tuple),
    confirmed=st.frozensets(cells, max_size=3),
    accepted=st.booleans(),
)


def forge(entry: Entry, data: bytes, version: int = 1) -> str:
    """Return a payload with this content and a checksum that holds."""
    packed = zlib.compress(data)
    checksum = sha256(packed).hexdigest()[:16]
    head = f"<!-- mcp-loadtest run={entry.run.run_id} version={version} sha256={checksum}"
    return f"{head}\n{b64encode(packed).decode()}\n-->"


@settings(max_examples=60)
@given(entries, words)
def test_an_entry_is_read_back_whatever_text_is_above_it(entry: Entry, text: str) -> None:
    block = encode_entry(entry)
    assert "--" not in block.removeprefix("<!--").removesuffix("-->")
    for body in (block, f"{text}\n\n{block}\n", f"{text}\n{block}".replace("\n", "\r\n")):
        assert decode_entry(body) == entry
        assert find_run_id(body) == entry.run.run_id


def test_a_run_of_the_full_profile_takes_little_of_a_comment() -> None:
    entry = full_run()
    assert len(encode_entry(entry)) < 4_000
    assert decode_entry(encode_entry(entry), "https://example.com") == replace(
        entry, url="https://example.com"
    )


def test_a_comment_without_a_payload_has_no_entry() -> None:
    assert decode_entry("Looks fine to me. <!-- a comment -->") is None
    assert find_run_id("Looks fine to me. <!-- a comment -->") is None


def test_only_the_last_payload_counts() -> None:
    entry = full_run()
    quoted = encode_entry(replace(entry, run=replace(entry.run, run_id="quoted")))
    assert decode_entry(f"{quoted}\n{encode_entry(entry)}") == entry


def test_a_payload_of_an_earlier_version_is_read() -> None:
    entry = full_run()
    packed = encode_entry(entry).splitlines()[1]
    content = json.loads(zlib.decompress(b64decode(packed)))
    del content["suspected"]
    assert decode_entry(forge(entry, json.dumps(content).encode())) == entry


GOOD = encode_entry(full_run())
DAMAGED = {
    "no end": GOOD.replace("-->", ""),
    "cut short": GOOD[: len(GOOD) // 2],
    "no checksum": re.sub(r"sha256=\w", "sha256=x", GOOD),
    "another checksum": GOOD.replace("sha256=", "sha256=0"),
    "another run": GOOD.replace("run=17654321098-1", "run=another"),
    "no version": GOOD.replace("version=1", "version=one"),
    "a byte less": GOOD[:-40] + GOOD[-39:],
    "nothing in it": forge(full_run(), b"{}"),
    "no JSON": forge(full_run(), b"no JSON"),
    "deep": forge(full_run(), b"[" * 100_000),
    "no run": forge(full_run(), b'{"run": {"run_id": "17654321098-1"}, "rows": []}'),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_payload_is_an_error(name: str) -> None:
    with pytest.raises(PayloadError, match="its payload is damaged"):
        decode_entry(DAMAGED[name])


def test_a_newer_payload_is_an_error_that_says_so() -> None:
    body = forge(full_run(), b"whatever comes next", version=2)
    with pytest.raises(PayloadError, match="version 2, newer than 1: update mcp-loadtest"):
        decode_entry(body)
    assert find_run_id(body) == "17654321098-1"


def test_a_forged_bomb_is_not_unpacked() -> None:
    run = b64decode(encode_entry(full_run()).splitlines()[1])
    bomb = zlib.decompress(run).removesuffix(b"}") + b" " * MOST_UNPACKED + b"}"
    assert len(forge(full_run(), bomb)) < 10_000
    with pytest.raises(PayloadError):
        decode_entry(forge(full_run(), bomb))
    fine = zlib.decompress(run).removesuffix(b"}") + b" " * 1_000 + b"}"
    assert decode_entry(forge(full_run(), fine)) == full_run()


def test_a_server_name_of_a_megabyte_is_cut_so_that_the_comment_can_be_posted() -> None:
    run = full_run().run
    named = replace(run, target=replace(run.target, server_name="n" * 1_000_000))
    packed = encode_entry(Entry(named, ()))
    decoded = decode_entry(packed)
    assert decoded is not None
    assert decoded.run.target.server_name == "n" * (MOST_NAME_CHARS - 1) + "…"


def test_no_secret_of_the_process_is_packed_into_a_comment() -> None:
    secret = SecretStr("c4n4ry-of-the-payload").get_secret_value()
    run = full_run().run
    failed = replace(run, scenarios=(ScenarioResult("tools", "failed", reason=f"no: {secret}"),))
    decoded = decode_entry(encode_entry(Entry(failed, ())))
    assert decoded is not None
    assert decoded.run.scenarios[0].reason == "no: ***"
