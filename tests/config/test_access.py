"""Headers and client certificates of an environment: what is accepted, refused, and where."""

import shutil
from pathlib import Path

import pytest

from loadtest.common.access import find_access
from loadtest.common.redaction import redact
from loadtest.config.loading import load_settings
from loadtest.config.project import CONFIG_FILE
from loadtest.config.settings import Settings, check_hosted
from loadtest.errors import ConfigError
from tests.support.certificates import write_client
from tests.support.checkout import ROOT

ORIGIN = "https://access.example"
BYPASS = "canary-bypass-0123456789"
KEY = "canary-key-0123456789"
VARIABLES = {"LOADTEST_BASE_URL": ORIGIN, "BYPASS": BYPASS, "KEY": KEY}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copy(ROOT / CONFIG_FILE, tmp_path)
    return tmp_path


def load(root: Path, lines: str, **variables: str) -> Settings:
    """Load an environment `mine` with these lines."""
    head = '[environment.mine]\ntarget = "hosted"\ndefault_profile = "smoke"\nmcp_path = "/mcp"\n'
    limits = "limits = { max_vus = 9, max_rps = 9, max_duration_seconds = 99 }\n"
    knobs = {"stages": "1,2", "vus": "2"}
    (root / CONFIG_FILE).write_text(f"{(ROOT / CONFIG_FILE).read_text()}\n{head}{limits}{lines}\n")
    return load_settings(root, "mine", knobs=knobs, process_env=VARIABLES | variables)


def refuse(root: Path, lines: str, **variables: str) -> str:
    """Return the one line with which these lines are refused, when read or before a request."""
    with pytest.raises(ConfigError) as caught:
        check_hosted(load(root, lines, **variables))
    message = str(caught.value)
    assert "\n" not in message
    assert BYPASS not in message
    return message


def test_values_come_from_variables_and_go_to_the_origin_of_the_target_alone(root: Path) -> None:
    lines = 'headers = { X-Bypass = "$BYPASS", X-Team = "load", X-Price = "$$5" }'
    settings = load(root, lines)
    expected = {"X-Bypass": BYPASS, "X-Team": "load", "X-Price": "$5"}
    assert dict(settings.access.headers) == expected
    assert dict(find_access(f"{ORIGIN}:443/mcp").headers) == expected
    for other in ("http://access.example/", "https://access.example:444/", "https://x.example/"):
        assert not find_access(other).headers
    assert BYPASS not in repr(settings)
    assert redact(f"it sent {BYPASS} by load") == "it sent *** by load"


def test_a_header_of_another_environment_does_not_stay_with_an_origin(root: Path) -> None:
    load(root, 'headers = { X-Bypass = "$BYPASS" }')
    load(root, "")
    assert not find_access(ORIGIN).headers


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('headers = { Authorization = "Bearer $KEY" }', 'Authorization needs auth = "header"'),
        ('headers = { mcp-session-id = "$KEY" }', "mcp-session-id is set by loadtest itself"),
        ('headers = { Content-Type = "a" }', "Content-Type is set by loadtest itself"),
        ('headers = { Host = "a" }', "Host is set by loadtest itself"),
        ('headers = { Cookie = "$KEY" }', "Cookie is set by loadtest itself"),
        ('headers = { "X Y" = "a" }', "cannot be the name of a header"),
        ('headers = { "" = "a" }', "cannot be the name of a header"),
        ('headers = { X-A = "a", x-a = "b" }', "x-a is there twice"),
        ('headers = { X-A = "a\\u0007" }', "X-A: its value is empty, or has a control character"),
        ('headers = { X-A = "a\\r\\nX-B: c" }', "X-A: its value is empty, or has a control"),
        ('headers = { X-A = "" }', "X-A: its value is empty"),
        ('headers = { X-A = "a$" }', "X-A: write $NAME for a variable"),
        (
            'headers = { X-Api-Key = "abc" }',
            "X-Api-Key looks like a secret: take it from a variable",
        ),
        ('headers = { X-A = "$NOT_SET" }', "environment mine lacks NOT_SET: set it as a variable"),
        ('auth = "header"', 'auth = "header" needs headers with the key'),
        ('auth = "none"\nprovision = "novamart"', 'provision = "novamart" needs auth = "bearer"'),
        ('auth = "none"\nclients = 2', 'clients is 2, but auth = "none" has one client'),
        ('auth = "basic"', "Input should be 'bearer', 'header' or 'none'"),
        ('tls_key = "k.pem"', "tls_key needs tls_certificate"),
        ('tls_certificate = "-----BEGIN CERTIFICATE-----"', "tls_certificate is the path of a PEM"),
        ('tls_certificate = "no.pem"', "no.pem: No such file or directory"),
        ('tls_certificate = "$NO_PEM"', "environment mine lacks NO_PEM"),
    ],
)
def test_what_is_wrong_is_one_line(root: Path, lines: str, words: str) -> None:
    assert words in refuse(root, lines)


@pytest.mark.parametrize(
    "value", ["canary-bypass-0123456789\r\nX-B: c", "canary\x07bypass", "é" * 9]
)
def test_a_variable_with_a_control_character_is_refused_without_its_value(
    root: Path, value: str
) -> None:
    message = refuse(root, 'headers = { X-Bypass = "$BYPASS" }', BYPASS=value)
    assert "headers.X-Bypass: its value is empty, or has a control character" in message


def test_a_command_that_sends_nothing_needs_no_value_of_a_header(root: Path) -> None:
    assert load(root, 'headers = { X-A = "$NOT_SET" }').access.lacking == ("NOT_SET",)


def test_the_reference_target_takes_no_headers(root: Path) -> None:
    text = (ROOT / CONFIG_FILE).read_text()
    (root / CONFIG_FILE).write_text(f'{text}\n[environment.local]\nheaders = {{ X-A = "a" }}\n')
    with pytest.raises(ConfigError, match='need target = "hosted"'):
        load_settings(root, process_env={})


def test_clients_cannot_share_one_key(root: Path) -> None:
    message = refuse(root, 'auth = "header"\nheaders = { X-Key = "$KEY" }', LOADTEST_CLIENTS="3")
    assert message == (
        '--clients (LOADTEST_CLIENTS) is 3, but with auth = "header" there is one client: all '
        "sessions share its quota"
    )


def test_a_certificate_and_its_key_come_from_files_or_from_variables(root: Path) -> None:
    certificate, key = write_client(root)
    both = 'tls_certificate = "client.pem"\ntls_key = "client.key"'
    found = load(root, both).access.certificate
    assert found is not None
    pem = {"PEM": certificate.read_text(), "PEM_KEY": key.read_text().replace("\n", "\\n")}
    named = load(root, 'tls_certificate = "$PEM"\ntls_key = "$PEM_KEY"', **pem)
    paths = {"PEM": str(certificate), "PEM_KEY": "client.key"}
    pointed = load(root, 'tls_certificate = "$PEM"\ntls_key = "$PEM_KEY"', **paths)
    (root / "both.pem").write_text(certificate.read_text() + key.read_text())
    joined = load(root, 'tls_certificate = "both.pem"')
    for settings in (named, pointed, joined):
        check_hosted(settings)
    assert named.access.certificate == pointed.access.certificate == found
    assert find_access(ORIGIN).certificate is not None
    line = key.read_text().splitlines()[1]
    assert line not in repr(named)
    assert line not in redact(f"it has {line}")


def test_a_key_of_another_certificate_is_refused(root: Path) -> None:
    write_client(root)
    (root / "other").mkdir()
    write_client(root / "other")
    lines = 'tls_certificate = "client.pem"\ntls_key = "other/client.key"'
    assert "tls_key does not belong to tls_certificate" in refuse(root, lines)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(root: Path) -> None:
    write_client(root, password=b"canary")
    lines = 'tls_certificate = "client.pem"\ntls_key = "client.key"'
    assert "are not a PEM certificate and its unencrypted key" in refuse(root, lines)
