"""Redact the secrets of this process in everything that leaves it.

A server may quote what it was sent: whole, in pieces, escaped for a URL, JSON or HTML, or in
base64. Code that receives or makes a secret calls `learn` or makes a `SecretStr`; code that prints
or writes text calls `redact`.
"""

import contextlib
import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, unquote_plus, urlsplit

import pydantic

from loadtest.common.escapes import has_escape, locate, unescape
from loadtest.common.secret_index import SecretIndex, Span, fold, is_word, squeeze

HIDDEN = "***"
# Names of members, in forms and in JSON, whose values are secret.
MEMBERS = frozenset(
    {
        *("access_token", "refresh_token", "id_token", "token", "bearer", "code_verifier"),
        *("registration_access_token", "client_secret", "client_assertion", "secret"),
        *("password", "currentPassword", "newPassword", "totpURI"),
    }
)
VARIABLES = re.compile(
    r"(PASSWORD|PASSWD|SECRET|TOKEN|BEARER|WEBHOOK|API_?KEY|ACCESS_KEY)(?!.*_(FILE|PATH|DIR)$)"
)
# Shorter secrets would be found by chance in other text. One-time codes are matched as numbers.
LEAST_SECRET = 8
# How many levels of escapes are undone: JSON in a URL in HTML.
DEPTH = 3
CHUNK_CHARS = 1_000_000

_BASE64 = re.compile(r"[\w+/-]{16,}", re.ASCII)
_URL_ALPHABET = str.maketrans("-_", "+/")
# A JSON web token is always redacted, known or not. The browser uses this pattern too.
JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}")


class SecretStr(pydantic.SecretStr):
    """A secret that is redacted from the moment it is made; its `repr` hides it."""

    def __init__(self, secret_value: str) -> None:
        super().__init__(secret_value)
        learn(secret_value)


def _learn_text(secret: str) -> str:
    learn(secret)
    return secret


# A secret member of a model that is read from outside and kept as a plain string.
SecretText = Annotated[str, pydantic.AfterValidator(_learn_text)]


known = SecretIndex()


def learn(*secrets: str | None) -> None:
    """Redact these secrets from now on in everything that leaves this process.

    Secrets that are too short or too plain are not redacted: see `is_hidable`. Of an address, only
    its secret parts are, not its host.
    """
    for secret in filter(None, secrets):
        for value in _pick_secret_parts(secret) if "://" in secret else (secret,):
            if value not in known.values and is_hidable(value):
                known.values.add(value)
                # As it is; with spaces as in a form; as UTF-8 bytes that were read as Latin-1.
                latin = value.encode(errors="replace").decode("latin-1")
                for form in {squeeze(value), value.replace(" ", "+"), squeeze(latin)}:
                    known.add(form)


def learn_members(body: Mapping[str, Any]) -> None:
    """Learn the members of a form or of a server's JSON whose names are secret."""
    learn(*(value for name, value in body.items() if name in MEMBERS and isinstance(value, str)))


def read_authorization(header: str) -> tuple[str, ...]:
    """Return the secrets in an `Authorization` header (RFC 6750, RFC 7617)."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return (credentials,)
    with contextlib.suppress(ValueError):
        secret = b64decode(credentials).decode("utf-8", "replace").partition(":")[2]
        return credentials, secret, unquote_plus(secret)
    return (credentials,)


def learn_variables(variables: Mapping[str, str]) -> None:
    """Learn the variables whose names are secret, whichever program they are for."""
    learn(*(value for name, value in variables.items() if VARIABLES.search(name)))


def learn_code(code: str) -> None:
    """Redact a one-time code; it is short, so only a whole number in the text matches."""
    known.codes.add(code)


def is_hidable(secret: str) -> bool:
    """Return whether a secret can be distinguished from ordinary words and numbers."""
    squeezed = squeeze(secret)
    return len(squeezed) >= LEAST_SECRET and not is_word(squeezed)


def redact(text: str) -> str:
    """Return the text without the known secrets, in any spelling, and without any JWT."""
    spans = _find_spans(text, DEPTH)
    spans += [match.span() for match in JWT.finditer(text)]
    parts, done = [], 0
    for begin, end in sorted(spans):
        if begin >= done:
            parts += [text[done:begin], HIDDEN]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def redact_json(value: Any) -> Any:
    """Return the same JSON with every string redacted, including names."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact_json(name): redact_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_json(inner) for inner in value]
    return value


def redact_folder(folder: Path) -> None:
    """Redact every file that another program wrote into a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            redact_file(path)


def redact_file(path: Path) -> None:
    """Redact a text file in place, JSON by its values, else by lines; it need not exist.

    Incomplete JSON, from a killed program, is redacted as text.
    """
    if path.suffix == ".json":
        with contextlib.suppress(OSError, ValueError, RecursionError):
            body = json.loads(path.read_bytes())
            cleaned = redact_json(body)
            if cleaned != body:
                _replace(path, [json.dumps(cleaned, indent=1, ensure_ascii=False)])
            return
    with (
        contextlib.suppress(FileNotFoundError),
        path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines,
    ):
        chunks = iter(lambda: lines.readlines(CHUNK_CHARS), [])
        _replace(path, (redact("".join(chunk)) for chunk in chunks))


def _replace(path: Path, texts: Iterable[str]) -> None:
    changed = path.with_name(f".{path.name}.redacted")
    with changed.open("w", encoding="utf-8", errors="surrogateescape", newline="") as target:
        target.writelines(texts)
    changed.chmod(path.stat().st_mode & 0o777)
    changed.replace(path)


def _find_spans(text: str, depth: int) -> list[Span]:
    """Return the spans of secrets in a text, also of those that are escaped or encoded."""
    found = list(known.find(fold(squeeze(text))))
    spans = _spread(text, found) if found else []
    if known.codes:
        spans += [match.span() for match in re.finditer(r"\d+", text) if match[0] in known.codes]
    if depth and has_escape(text):
        inner = _find_spans(unescape(text), depth - 1)
        spans += locate(text, inner) if inner else []
    else:
        decoded: dict[str, list[Span]] = {}
        for match in _BASE64.finditer(text):
            if match[0] not in decoded:
                decoded[match[0]] = list(_decode(match[0]))
            at = match.start()
            spans += [(at + begin, at + end) for begin, end in decoded[match[0]]]
    return spans


def _spread(text: str, spans: Iterable[Span]) -> list[Span]:
    """Return spans of squeezed text as spans of the text."""
    kept = [at for at, char in enumerate(text) if not char.isspace()]
    return [(kept[begin], kept[end - 1] + 1) for begin, end in spans]


def _decode(packed: str) -> Iterator[Span]:
    """Yield the spans of secrets in base64, at any alignment."""
    for shift in range(4):
        digits = packed[shift:].translate(_URL_ALPHABET)
        digits = digits[: len(digits) - (len(digits) % 4 == 1)]
        text = b64decode(digits + "=" * (-len(digits) % 4)).decode("latin-1")
        found = list(known.find(fold(squeeze(text))))
        for begin, end in _spread(text, found) if found else ():
            yield shift + begin * 4 // 3, min(len(packed), shift - (-end * 4 // 3))


def _pick_secret_parts(url: str) -> Iterator[str]:
    """Yield the parts of an address that may be secret: its password, and what follows the host."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        rest = [parts.password or "", *re.split(r"[/?&=#;]", url.partition(parts.netloc)[2])]
        yield from (unquote(part) for part in rest if "@" not in unquote(part))
