"""What we know as secret leaves nothing of itself in a text, however a server writes it."""

import base64
import html
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.common import redaction
from loadtest.common.http import open_client
from loadtest.common.redaction import (
    SecretStr,
    is_hidable,
    learn,
    learn_code,
    redact,
    redact_file,
    redact_json,
)
from loadtest.errors import LoadtestError
from loadtest.mint.oauth.acceptance import list_tools
from loadtest.mint.oauth.discovery import discover
from loadtest.target.mcp_client import WorkspaceClient
from loadtest.target.rest_client import Accounts
from tests.canary.leaks import Finder
from tests.support.hostile_server import HostileServer, Request, send_json

WRITINGS: dict[str, Callable[[str], str]] = {
    "in clear": str,
    "in another case": str.upper,
    "in a URL": lambda it: quote(it, safe=""),
    "in a URL, in lower case": lambda it: quote(it, safe="").lower(),
    "in a form": quote_plus,
    "in a URL in a URL": lambda it: quote(quote(it, safe=""), safe=""),
    "every character in a URL": lambda it: "".join(f"%{octet:02x}" for octet in it.encode()),
    "in HTML": html.escape,
    "in HTML by numbers": lambda it: "".join(f"&#{ord(char)};" for char in it),
    "in JSON": json.dumps,
    "in JSON in JSON": lambda it: json.dumps(json.dumps(it)),
    "in JSON in HTML": lambda it: html.escape(json.dumps(it)),
    "in Python": repr,
    "wrapped": "\n".join,
    "in base64": lambda it: base64.b64encode(it.encode()).decode(),
    "in base64, one on": lambda it: base64.b64encode(f":{it}:".encode()).decode(),
    "in base64, two on": lambda it: base64.b64encode(f"u:{it}".encode()).decode(),
    "in base64 of a URL": lambda it: base64.urlsafe_b64encode(f"~?{it}~?".encode()).decode(),
    "in base64 in a URL": lambda it: quote(base64.b64encode(it.encode()).decode(), safe=""),
    "its first half": lambda it: it[: len(it) // 2],
    "its second half": lambda it: it[-(len(it) // 2) :],
    "its first half in base64": lambda it: base64.b64encode(it[: len(it) // 2].encode()).decode(),
    "all but its ends": lambda it: it[1:-1],
}


@pytest.mark.parametrize("writing", WRITINGS)
def test_no_piece_of_a_secret_stays_in_any_spelling(writing: str) -> None:
    password = f"{secrets.token_hex(12)} <\"&'+%/ü>{secrets.token_hex(12)}"
    bearer = ".".join(secrets.token_urlsafe(size) for size in (27, 300, 64))
    finder = Finder()
    for secret in (password, bearer):
        finder.add("secret", secret)
    said = [f"no: {WRITINGS[writing](secret)}: wrong" for secret in (password, bearer)]
    assert all(redact(text) == text for text in said)
    learn(password, bearer)
    for text in said:
        left = redact(text)
        assert "***" in left
        assert left.startswith("no: ")
        assert left.endswith(": wrong")
        assert not finder.find(left.encode()), left


@settings(deadline=None)
@given(secret=st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=8))
def test_any_secret_that_can_be_hidden_is(secret: str) -> None:
    learn(secret)
    for write in (str, json.dumps, html.escape, repr, lambda it: quote(it, safe="")):
        assert not is_hidable(secret) or redact(f"<{write(secret)}>").count(secret) == 0


def test_text_without_secrets_stays_as_it_is() -> None:
    learn(
        secrets.token_urlsafe(32), "LoadTest2026!Staging", "https://hooks.example/T0/" + "x1y2" * 5
    )
    text = (
        "loadtest: run 20261130T034512Z-1a2b3c4: k6 ran on staging, https://hooks.example/docs\n"
        "sessions: 50 sessions, 12,345 calls at 100 %25 &amp; \\n \\u00e9, p95 12.5 ms\n"
    )
    assert redact(text) == text


def test_a_secret_string_is_redacted_as_soon_as_it_exists() -> None:
    made = SecretStr(secrets.token_hex(12))
    assert redact(f"said {made.get_secret_value()}") == "said ***"
    assert made.get_secret_value() not in repr(made)


def greet(mcp_url: str) -> None:
    WorkspaceClient(mcp_url, SecretStr("none"), print).greet()


def try_bearer(mcp_url: str) -> None:
    with open_client(60.0) as http:
        list_tools(mcp_url, SecretStr("none"), http)


@pytest.mark.parametrize("visit", [greet, try_bearer, discover])
def test_the_id_of_an_opened_session_is_redacted(visit: Callable[[str], object]) -> None:
    session = secrets.token_hex(16)

    def answer(_: Request) -> Iterator[bytes]:
        yield send_json({}, head=f"Mcp-Session-Id: {session}\r\n".encode())

    with HostileServer(answer) as server, suppress(LoadtestError):
        visit(f"{server.url}/mcp")
    assert server.seen
    assert redact(f"no session {session}") == "no session ***"


def test_the_backup_codes_of_an_authenticator_are_redacted() -> None:
    backups = [f"{secrets.token_hex(3)[:5]}-{secrets.token_hex(3)[:5]}" for _ in range(10)]
    uri = f"otpauth://totp/x?secret={base64.b32encode(secrets.token_bytes(20)).decode()}"

    def answer(_: Request) -> Iterator[bytes]:
        yield send_json({"totpURI": uri, "backupCodes": backups})

    with HostileServer(answer) as server, Accounts(server.url, print) as accounts:
        accounts.start_enrollment(SecretStr("none"))
    assert redact(f"used up: {', '.join(backups)}") == f"used up: {', '.join(['***'] * 10)}"


def test_a_plain_word_and_a_short_secret_are_not_redacted() -> None:
    for weak in ("staging", "password", "Performance", "s3cret", "a"):
        assert not is_hidable(weak)
        learn(weak)
        assert redact(f"the {weak} of staging") == f"the {weak} of staging"
    assert is_hidable("Passw0rd")


def test_a_one_time_code_is_redacted_only_as_a_whole_number() -> None:
    learn_code("123456")
    assert redact("code 123456, run 91234567, 123456 ms") == "code ***, run 91234567, *** ms"


def test_the_path_of_a_webhook_is_secret_and_its_host_is_not() -> None:
    path = f"T024/{secrets.token_hex(12)}"
    learn(f"https://hooks.example.com/services/{path}")
    said = redact(
        f"https://hooks.example.com/ answers, https://hooks.example.com/services/{path} not"
    )
    assert (
        said
        == "https://hooks.example.com/ answers, https://hooks.example.com/services/T024/*** not"
    )


def test_json_stays_json_and_keeps_its_numbers() -> None:
    secret = f'{secrets.token_hex(8)}\\"{secrets.token_hex(8)}'
    learn(secret)
    body = {
        "p95": 12.5,
        "ok": True,
        "none": None,
        f"code:{secret}": [secret, {"text": f"a{secret}"}],
    }
    cleaned = redact_json(body)
    assert cleaned == {"p95": 12.5, "ok": True, "none": None, "code:***": ["***", {"text": "a***"}]}


def test_an_unknown_jwt_is_redacted_too() -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    assert redact(f"took {head}.{head}.sig") == "took ***"


def test_a_file_is_redacted_in_place_and_keeps_its_bytes(tmp_path: Path) -> None:
    secret, log = secrets.token_hex(16), tmp_path / "k6.log"
    learn(secret)
    log.write_bytes(b"one\r\n\xff\xfe " + secret.encode() + b"\nlast")
    log.chmod(0o600)
    redact_file(log)
    assert log.read_bytes() == b"one\r\n\xff\xfe ***\nlast"
    assert log.stat().st_mode & 0o777 == 0o600
    redact_file(tmp_path / "missing.log")
    assert [path.name for path in tmp_path.iterdir()] == ["k6.log"]


def test_json_that_was_cut_off_is_redacted_as_text(tmp_path: Path) -> None:
    secret, cut = secrets.token_hex(16), tmp_path / "summary.json"
    learn(secret)
    cut.write_text(f'{{"metrics": "{secret}", "more')
    redact_file(cut)
    assert cut.read_text() == '{"metrics": "***", "more'


def test_a_secret_that_is_learned_twice_is_kept_once() -> None:
    secret = secrets.token_hex(16)
    learn(secret, secret, None, "")
    learn(secret)
    assert len(redaction.known.forms) == 1
