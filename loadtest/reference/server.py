"""Run the reference target: its sockets, its thread and its state directory."""

import asyncio
import logging
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from email.utils import formatdate
from pathlib import Path
from typing import Annotated

import uvicorn
from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loadtest.common import files
from loadtest.errors import TargetError
from loadtest.reference.account_routes import AccountRoutes
from loadtest.reference.accounts import Client, SignIn, Store, User, Workspace
from loadtest.reference.clients import Clients
from loadtest.reference.deployment import Deployment, Mail
from loadtest.reference.discovery import Discovery
from loadtest.reference.edge import McpEdge
from loadtest.reference.grants import Grants
from loadtest.reference.identity import check_origin
from loadtest.reference.knobs import Knobs, split_header
from loadtest.reference.novamart import open_novamart
from loadtest.reference.oauth import AuthorizationServer
from loadtest.reference.pages import WebPages
from loadtest.reference.rate_limits import Clock
from loadtest.reference.registration import Registration
from loadtest.reference.responses import Refusal, rest_error
from loadtest.reference.rest import Rest
from loadtest.reference.second_factor import SecondFactorRoutes
from loadtest.reference.seeds import SeedClient, SeedUser, seed_clients, seed_user
from loadtest.reference.sql import QUERY_SECONDS, SqlEngine
from loadtest.reference.tools import Toolbox

__all__ = ["ReferenceTarget", "SeedClient", "SeedUser"]

HOST = "127.0.0.1"
PORTS_FILE = "ports.json"
_PORTS = TypeAdapter(dict[str, Annotated[int, Field(ge=0, lt=65536)]])
STATE_VERSION = 1
_START_SECONDS = 30
_STOP_SECONDS = 10
_DEFAULT_ENDPOINTS = {
    f"/{name}": f"/api/auth/oauth2/{name}" for name in ("authorize", "token", "register")
}
"""What a client without metadata uses (MCP 2025-03-26, authorization, section 2.3.3)."""


class ReferenceTarget:
    """A running target; use it as a context manager or call `start` and `stop`.

    It serves from its own thread on two loopback sockets that it binds itself. `port` and
    `web_port` are exact (0: any free port); if `preferred_port` is busy, a free port is used.
    Without `state_dir`, no state is kept. Raises `TargetError` if a port or the state directory
    cannot be used. `clock` (epoch seconds) times every limit and expiry. `users` and
    `clients` exist from the start.
    """

    api_url: str
    web_url: str

    def __init__(
        self,
        knobs: Knobs | None = None,
        *,
        state_dir: Path | None = None,
        port: int = 0,
        web_port: int = 0,
        preferred_port: int = 0,
        users: Sequence[SeedUser] = (),
        clients: Sequence[SeedClient] = (),
        clock: Clock = time.time,
        query_seconds: float = QUERY_SECONDS,
    ) -> None:
        self.knobs = knobs or Knobs()
        self._state_dir = state_dir
        self._ports = (port, web_port)
        self._preferred_port = preferred_port
        self._users = users
        self._clients = clients
        self._clock = clock
        self._query_seconds = query_seconds
        self._resources = ExitStack()
        self._sockets: list[socket.socket] = []
        self._server: _Server | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> "ReferenceTarget":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Open the state, bind the sockets, and return when connections are accepted."""
        with ExitStack() as resources:
            self._start(resources)
            self._resources = resources.pop_all()

    def stop(self) -> None:
        """Stop serving, end all sessions, and release sockets, files and the state directory."""
        self._resources.close()

    @property
    def open_sessions(self) -> int:
        """Return the number of open MCP sessions; after `stop`, of those that were left open."""
        return self._edge.open_sessions

    @property
    def open_streams(self) -> int:
        """Return the number of open streams from the server to its clients."""
        return self._edge.open_streams

    @property
    def requests(self) -> int:
        """Return the number of HTTP requests so far, on both origins."""
        return self._deployment.requests

    @property
    def tool_calls(self) -> int:
        """Return the number of tool calls so far."""
        return self._deployment.tool_calls

    @property
    def scans(self) -> int:
        """Return the number of executeSQL statements that the database answered, not the cache."""
        return self._deployment.scans

    @property
    def quota_refusals(self) -> int:
        """Return the number of tool calls that the quota refused so far."""
        return self._deployment.quota_refusals

    @property
    def registrations(self) -> int:
        """Return the number of registered clients so far, including deleted ones."""
        return self._deployment.registrations

    @property
    def refreshes(self) -> int:
        """Return the number of requests with a refresh token so far, including refused ones."""
        return self._deployment.refreshes

    @property
    def refresh_reuses(self) -> int:
        """Return how often a rotated refresh token was sent again."""
        return self._deployment.refresh_reuses

    @property
    def revocations(self) -> int:
        """Return the number of revocation requests so far for a token of the requesting client."""
        return self._deployment.revocations

    @property
    def tasks(self) -> int:
        """Return the number of tasks on the target's event loop, which a leak would increase."""
        return len(asyncio.all_tasks(self._loop))

    @property
    def mails(self) -> list[Mail]:
        """Return the mails that were sent so far, the newest last."""
        return list(self._deployment.mails)

    def sign_ins(self) -> list[SignIn]:
        """Return all signed-in sessions."""
        with self._deployment.store.begin() as db:
            return list(db.scalars(select(SignIn).order_by(SignIn.created_at)))

    def users(self) -> list[User]:
        """Return all users."""
        with self._deployment.store.begin() as db:
            return list(db.scalars(select(User).order_by(User.created_at)))

    def clients(self) -> list[Client]:
        """Return all OAuth clients: registered, given, or described by a document."""
        with self._deployment.store.begin() as db:
            return list(db.scalars(select(Client).order_by(Client.created_at)))

    def forget_clients(self) -> int:
        """Delete all clients except those given at the start; return their number."""
        return self._deployment.forget_clients()

    def workspaces(self) -> list[Workspace]:
        """Return all workspaces."""
        with self._deployment.store.begin() as db:
            return list(db.scalars(select(Workspace).order_by(Workspace.created_at)))

    def _start(self, resources: ExitStack) -> None:
        folder = self._state_dir
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="loadtest-reference-")
            folder = Path(resources.enter_context(temporary))
        try:
            files.ensure_private_dir(folder)
            resources.callback(_lock(folder).release)
        except OSError as failure:
            raise TargetError(f"{folder} cannot be used: {failure.strerror}") from None
        self._bind(folder, resources)
        store = resources.enter_context(closing(Store(folder / "accounts.sqlite")))
        self._deployment = Deployment(
            api_url=self.api_url,
            web_url=self.web_url,
            knobs=self.knobs,
            store=store,
            clock=_skew(self._clock, self.knobs.clock_skew_seconds),
        )
        for user in self._users:
            seed_user(self._deployment, user)
        seed_clients(self._deployment, self._clients)
        engine = SqlEngine(open_novamart(folder), self._query_seconds)
        resources.enter_context(closing(engine))
        ready = threading.Event()
        thread = threading.Thread(
            target=self._serve, args=(engine, ready), name="reference-target", daemon=True
        )
        thread.start()
        resources.callback(self._stop_serving, thread)
        if not ready.wait(_START_SECONDS) or self._failure is not None:
            raise TargetError(f"the reference target did not start: {self._failure}")

    def _stop_serving(self, thread: threading.Thread) -> None:
        if self._server is not None:
            self._server.should_exit = True
            thread.join(_STOP_SECONDS)

    def _bind(self, folder: Path, resources: ExitStack) -> None:
        """Bind both sockets: to the requested ports, else to the last ones, else to free ones."""
        record = folder / PORTS_FILE
        last = {"api": 0, "web": 0}
        if record.exists():
            kept = files.read_valid(record, STATE_VERSION, _PORTS, TargetError)
            last |= kept
        wishes = (self._preferred_port or last["api"], last["web"])
        self._sockets = [
            resources.enter_context(_bind(exact, wish))
            for exact, wish in zip(self._ports, wishes, strict=True)
        ]
        api, web = (bound.getsockname()[1] for bound in self._sockets)
        scheme = "https" if self.knobs.tls_certificate else "http"
        self.api_url, self.web_url = f"{scheme}://{HOST}:{api}", f"{scheme}://{HOST}:{web}"
        files.write_json(record, STATE_VERSION, {"api": api, "web": web})

    def _serve(self, engine: SqlEngine, ready: threading.Event) -> None:
        try:
            asyncio.run(self._run(engine, ready))
        except Exception as failure:  # noqa: BLE001 - `start` raises it
            self._failure = failure
        finally:
            ready.set()

    async def _run(self, engine: SqlEngine, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._edge = McpEdge(self._deployment, Toolbox(self._deployment, engine))
        app = _Origins(self._deployment, self._edge, self._sockets[1].getsockname()[1])
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=not self.knobs.clock_skew_seconds,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            ssl_certfile=self.knobs.tls_certificate or None,
            ssl_ca_certs=self.knobs.client_authority or None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if self.knobs.client_authority else ssl.CERT_NONE,
        )
        logging.getLogger("uvicorn.error").addFilter(_is_a_bug)
        self._server = _Server(config, ready)
        stopped = asyncio.Event()
        edge = asyncio.create_task(self._edge.serve(stopped))
        try:
            await self._server.serve(sockets=self._sockets)
        finally:
            stopped.set()
            await edge


class _Server(uvicorn.Server):
    """A uvicorn server that sets an event when it accepts connections."""

    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()


class _Origins:
    """Route a request to the API, the MCP edge or the pages, by port and path."""

    def __init__(self, deployment: Deployment, edge: McpEdge, web_port: int) -> None:
        self._deployment = deployment
        self._edge = edge
        self._web_port = web_port
        self._web = WebPages(deployment).build_app()
        self._api = _build_api(deployment)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self._deployment.requests += 1
        if self._deployment.knobs.clock_skew_seconds:
            send = _dated(send, self._deployment.clock)
        if self._deployment.knobs.default_endpoints and scope["path"] in _DEFAULT_ENDPOINTS:
            scope = {**scope, "path": _DEFAULT_ENDPOINTS[scope["path"]]}
        if scope["server"][1] == self._web_port:
            await self._web(scope, receive, send)
        elif not self._has_required_header(scope):
            await PlainTextResponse("This preview is protected.", 401)(scope, receive, send)
        elif scope["path"].startswith("/mcp/"):
            await self._edge(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    def _has_required_header(self, scope: Scope) -> bool:
        if not self._deployment.knobs.required_header:
            return True
        name, value = split_header(self._deployment.knobs.required_header)
        return Headers(scope=scope).get(name) == value


def _build_api(deployment: Deployment) -> Starlette:
    clients = Clients(deployment)
    server = AuthorizationServer(deployment, clients)
    accounts = AccountRoutes(deployment, server)
    parts = (
        Discovery(deployment),
        Registration(deployment),
        server,
        Grants(deployment, clients),
        accounts,
        SecondFactorRoutes(deployment, accounts),
        Rest(deployment),
    )

    async def refuse(_request: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, Refusal)
        return refusal.response

    async def report(_request: Request, failure: Exception) -> Response:
        assert isinstance(failure, HTTPException)
        code = "not_found" if failure.status_code == 404 else "method_not_allowed"
        return rest_error(failure.status_code, code, failure.detail)

    return Starlette(
        routes=[route for part in parts for route in part.routes()],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=[deployment.web_url],
                allow_methods=["GET", "POST"],
                allow_headers=["content-type"],
                allow_credentials=True,
            ),
            Middleware(_Gate, deployment=deployment),
        ],
        exception_handlers={Refusal: refuse, HTTPException: report},
    )


class _Gate:
    """Apply origin rules and rate limits to `/api/auth` before its routes."""

    def __init__(self, app: ASGIApp, deployment: Deployment) -> None:
        self._app = app
        self._deployment = deployment

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/auth/"):
            request = Request(scope, receive)
            try:
                check_origin(self._deployment, request)
            except Refusal as refusal:
                await refusal.response(scope, receive, send)
                return
            limited = self._deployment.first_refusals.refuse(request)
            if limited is None and self._deployment.knobs.account_limits:
                limited = self._deployment.limits.refuse(request)
            if limited is not None:
                await limited(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _skew(clock: Clock, seconds: int) -> Clock:
    """Return a clock that is ahead by this many seconds."""
    return (lambda: clock() + seconds) if seconds else clock


def _dated(send: Send, clock: Clock) -> Send:
    """Return a `send` that adds a Date header from `clock` (RFC 9110, section 6.6.1)."""

    async def dated(message: Message) -> None:
        if message["type"] == "http.response.start":
            date = (b"date", formatdate(clock(), usegmt=True).encode())
            message = {**message, "headers": [*message.get("headers", ()), date]}
        await send(message)

    return dated


def _is_a_bug(record: logging.LogRecord) -> bool:
    """Return whether a log record is about a bug; dropped connections are intended."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is not None and not issubclass(kind, asyncio.CancelledError)


def _bind(exact: int, wish: int) -> socket.socket:
    """Return a bound loopback socket on `exact`, else on `wish`, else on a free port."""
    candidates = [exact] if exact else [wish, 0]
    for candidate in candidates:
        # asyncio disables Nagle's algorithm (40 ms per reply) only if the protocol is given.
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((HOST, candidate))
            bound.listen(2048)
        except OSError as failure:
            bound.close()
            if exact:
                reason = failure.strerror
                raise TargetError(f"port {exact} cannot be used on {HOST}: {reason}") from None
        except OverflowError:
            bound.close()
            raise TargetError(f"{candidate} is not a port") from None
        else:
            return bound
    raise TargetError(f"no free port on {HOST}")


def _lock(folder: Path) -> FileLock:
    """Lock `folder` for this process; the lock ends with the process."""
    lock = FileLock(folder / "lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise TargetError(f"{folder} is in use by another reference target") from None
    return lock
