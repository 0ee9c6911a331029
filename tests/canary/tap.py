"""Listens at the reference target for secrets as they cross the wire, and puts pages in its way.

In a process of its own it listens too: with what `write_site` returns on PYTHONPATH.
"""

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus

from starlette.types import Message, Receive, Scope, Send

# Members of forms and of JSON that are secret wherever they appear.
SECRET_MEMBERS = frozenset(
    {
        *("password", "currentPassword", "newPassword", "client_secret", "client_assertion"),
        *("code_verifier", "refresh_token", "access_token", "id_token"),
        *("token", "bearer", "registration_access_token"),
    }
)
_CODE = re.compile(r"[?&]code=([^&\"\s]+)")
_SITE = """import sys
if "loadtest.reference" in sys.orig_argv:
    from tests.canary.tap import Tap
    from loadtest.reference import server
    Tap(__import__("pathlib").Path({record!r})).install(server._Origins)
"""


class Tap:
    """Appends each secret that it sees to a file, as a line of JSON: its name and its value.

    `pages` are served in place of the target's own, at every path that they name: a status and a
    text, where `{typed}` is what was sent with the last form, as it came and as a person reads it.
    A refusal for too many requests is served once.
    """

    def __init__(self, record: Path) -> None:
        self.record = record
        self.pages: dict[str, tuple[int, str]] = {}
        self._typed = ""

    def install(self, app: Any) -> None:
        """Wrap the target's outermost application, a class."""
        inner = app.__call__

        async def listening(this: Any, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await inner(this, scope, receive, send)
            elif scope["path"] in self.pages:
                await self._serve(scope, receive, send)
            else:
                request, reply = bytearray(), bytearray()
                try:
                    taken, given = _copy_received(receive, request), _copy_sent(send, reply)
                    await inner(this, scope, taken, given)
                finally:
                    self.note(scope, bytes(request), bytes(reply))

        app.__call__ = listening

    def read(self) -> list[tuple[str, str]]:
        """Return every name and value so far."""
        if not self.record.exists():
            return []
        return [tuple(json.loads(line)) for line in self.record.read_text().splitlines()]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if body:
            self._typed = body.decode()
        status, text = self.pages[scope["path"]]
        if status == 429:
            del self.pages[scope["path"]]
        plain = unquote_plus(self._typed)
        page = text.replace("{typed}", f"{self._typed} {plain.replace('<', '&lt;')}").encode()
        kind = (b"content-type", b"text/html; charset=utf-8")
        await send({"type": "http.response.start", "status": status, "headers": [kind]})
        await send({"type": "http.response.body", "body": page})

    def note(self, scope: Scope, request: bytes, reply: bytes = b"") -> None:
        """Keep the secrets of a request, and of what it was answered."""
        found = [*read_sent(scope, request), *_read_members(reply.split(b"\0", 1)[-1])]
        found += [("code", unquote(code)) for code in _CODE.findall(reply.decode("latin-1"))]
        with self.record.open("a") as lines:
            lines.writelines(json.dumps(secret) + "\n" for secret in found)


def read_sent(scope: Scope, request: bytes) -> Iterator[tuple[str, str]]:
    """Yield the secrets that a request carries, by name."""
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    yield from _read_members(request)
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            pair = base64.b64decode(credentials).decode()
            yield "client_secret", unquote_plus(pair.partition(":")[2])
    elif scheme.lower() == "bearer":
        yield "bearer", credentials
    yield from (("cookie", value) for value in _read_cookies(headers.get("cookie", "")))


def write_site(folder: Path, record: Path) -> Path:
    """Write what makes a reference target in a child process listen; return it for PYTHONPATH."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SITE.format(record=str(record)))
    return folder


def _copy_received(receive: Receive, into: bytearray) -> Receive:
    async def copying() -> Message:
        message = await receive()
        into.extend(message.get("body", b""))
        return message

    return copying


def _copy_sent(send: Send, into: bytearray) -> Send:
    """Copy where a reply leads, then its body."""

    async def copying(message: Message) -> None:
        for name, value in message.get("headers", ()):
            if name.lower() == b"location":
                into.extend(value + b"\0")
        into.extend(message.get("body", b""))
        await send(message)

    return copying


def _read_members(body: bytes) -> Iterator[tuple[str, str]]:
    text = body.decode("utf-8", "replace")
    try:
        pairs = list(_flatten(json.loads(text)))
    except ValueError:
        # In JSON a code is the name of an error.
        yield from ((name, value) for name, value in parse_qsl(text) if name == "code")
        pairs = parse_qsl(text)
    yield from ((name, value) for name, value in pairs if name in SECRET_MEMBERS)


def _flatten(body: Any) -> Iterator[tuple[str, str]]:
    if isinstance(body, dict):
        for name, value in body.items():
            if isinstance(value, str):
                yield name, value
            else:
                yield from _flatten(value)
    elif isinstance(body, list):
        for value in body:
            yield from _flatten(value)


def _read_cookies(header: str) -> Iterator[str]:
    for part in header.split(";"):
        _, _, value = part.strip().partition("=")
        if value:
            yield unquote(value)
