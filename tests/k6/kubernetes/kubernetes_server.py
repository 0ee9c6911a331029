"""A loopback Kubernetes API: objects with owners, logs of pods as streams, and refusals."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

NAMESPACE = "load-tests"
CONTEXT = "perf"
TOKEN = "a cluster token canary"
USER = "ci"
# The token of the runners' service account, which has the rights of its Role.
RUNNER_TOKEN = "a runner's token canary"
FOREGROUND = "foregroundDeletion"
# How often objects without an owner are collected; the operator is faster.
COLLECT_SECONDS = 0.05

# By group: the resources that are served, and their kinds.
KINDS: dict[str, dict[str, str]] = {
    "": {
        "configmaps": "ConfigMap",
        "events": "Event",
        "pods": "Pod",
        "secrets": "Secret",
        "services": "Service",
        "serviceaccounts": "ServiceAccount",
    },
    "batch": {"jobs": "Job"},
    "k6.io": {"testruns": "TestRun"},
    "rbac.authorization.k8s.io": {"rolebindings": "RoleBinding", "roles": "Role"},
}
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "AlreadyExists",
    422: "Invalid",
    503: "ServiceUnavailable",
}

Thing = dict[str, Any]


class RefusalError(Exception):
    """An error in the format of the API server; `plain` is its format for unknown paths."""

    def __init__(self, code: int, message: str, *, plain: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.body = f"{message}\n".encode()
        self.content_type = "text/plain; charset=utf-8"
        if not plain:
            status: Thing = {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
            }
            status |= {"message": message, "reason": REASONS[code], "code": code}
            self.body = json.dumps(status).encode()
            self.content_type = "application/json"


class Place(NamedTuple):
    """The parts of a path; `name` and `part` (such as `log`) are empty for a collection."""

    group: str
    version: str
    namespace: str
    plural: str
    name: str
    part: str

    @property
    def resource(self) -> str:
        """The resource as it appears in messages."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Cut(NamedTuple):
    """Ends a log stream after a number of bytes: with a closed connection, or as if complete."""

    after: int
    clean: bool = False


@dataclass
class Container:
    """A container of a pod: its output so far, and how to terminate it.

    `lines` have a timestamp, a text, and whether the line ends there, as on a node.
    """

    lines: list[tuple[str, bytes, bool]] = field(default_factory=list)
    running: bool = True
    terminate: Callable[[], None] = lambda: None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def write(self, stamp: str, text: bytes, *, whole: bool = True) -> None:
        """Add to the log."""
        with self.changed:
            self.lines.append((stamp, text, whole))
            self.changed.notify_all()

    def end(self) -> None:
        """End the log."""
        with self.changed:
            self.running = False
            self.changed.notify_all()

    def follow(self, since: str) -> Iterator[bytes]:
        """Yield the log like a kubelet: one timestamp per line, even for a line in pieces."""
        at, at_start = 0, True
        while True:
            with self.changed:
                self.changed.wait_for(lambda: len(self.lines) > at or not self.running, 60)  # noqa: B023
                fresh, running = self.lines[at:], self.running
            at += len(fresh)
            for stamp, text, whole in fresh:
                if stamp[:19] >= since[:19]:
                    yield (f"{stamp} ".encode() if at_start else b"") + text + b"\n" * whole
                    at_start = whole
            if not fresh and not running:
                return


class KubernetesServer:
    """A server with one namespace and one user; attributes make it refuse requests."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.things: dict[str, dict[str, Thing]] = {}
        self.containers: dict[str, Container] = {}
        self.calls: list[str] = []
        self.has_operator = True
        self.has_namespace = True
        self.knows_token = True
        self.is_web_page = False  # like the sign-in page of a proxy
        self.lost_fields: tuple[str, ...] = ()  # of a TestRun, which an older operator drops
        self.keeps_pods = False  # like slow nodes
        self.cuts: list[Cut] = []
        self.on_create: Callable[[Thing], None] = lambda _: None
        self._forbidden: set[tuple[str, str]] = set()
        self._refusals: dict[str, RefusalError] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler())
        self._server.daemon_threads = True
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.02,)),
            threading.Thread(target=self._keep_collecting),
        ]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the server and release the port."""
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(10)

    def write_config(self, path: Path) -> Path:
        """Write a kubeconfig for this cluster."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "clusters": [{"name": "loopback", "cluster": {"server": self.url}}],
            "users": [{"name": USER, "user": {"token": TOKEN}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": "loopback", "user": USER}}],
        }
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def forbid(self, verb: str, resource: str) -> None:
        """Refuse this to the user, as if a Role were missing."""
        self._forbidden.add((verb, resource))

    def refuse(self, verb: str, plural: str, code: int, message: str) -> None:
        """Answer such requests with an error."""
        self._refusals[f"{verb} {plural}"] = RefusalError(code, message)

    def list_things(self, plural: str) -> list[Thing]:
        """Return all objects of a kind."""
        with self.lock:
            return [*self.things.get(plural, {}).values()]

    def find(self, plural: str, name: str) -> Thing | None:
        """Return an object by its name."""
        with self.lock:
            return self.things.get(plural, {}).get(name)

    def list_left(self) -> list[str]:
        """Return the objects that remain after collection, without events."""
        with self.lock:
            while self._collect():
                """Wait until nothing more is collected."""
            return [
                f"{plural}/{name}"
                for plural, named in self.things.items()
                for name in named
                if plural != "events"
            ]

    def add(self, plural: str, thing: Thing, *, age_seconds: float = 0) -> Thing:
        """Add an object of that age."""
        created = datetime.now(UTC) - timedelta(seconds=age_seconds)
        thing = json.loads(json.dumps(thing))
        thing["metadata"] |= {
            "uid": str(uuid.uuid4()),
            "namespace": NAMESPACE,
            "creationTimestamp": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        }
        with self.lock:
            self.things.setdefault(plural, {})[thing["metadata"]["name"]] = thing
        return thing

    def change(self, plural: str, name: str, patch: Thing) -> None:
        """Merge a patch into an object (RFC 7396), if it exists."""
        with self.lock:
            found = self.find(plural, name)
            if found is not None:
                _merge(found, json.loads(json.dumps(patch)))

    def delete(self, plural: str, name: str, *, foreground: bool = False) -> None:
        """Delete an object, and what it owns after or before it; a pod goes once it has ended."""
        with self.lock:
            found = self.find(plural, name)
            if found is None:
                return
            metadata = found["metadata"]
            container = self.containers.get(metadata["uid"])
            if container is not None and not container.running:
                container = None
            stays = container is not None or foreground or (plural == "pods" and self.keeps_pods)
            if stays and "deletionTimestamp" not in metadata:
                metadata["deletionTimestamp"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
                metadata["finalizers"] = [FOREGROUND] if foreground else []
                if container is not None:
                    container.terminate()
            elif not stays:
                del self.things[plural][name]

    def _keep_collecting(self) -> None:
        while not self._ending.wait(COLLECT_SECONDS):
            with self.lock:
                self._collect()

    def _collect(self) -> bool:
        """Go once round; return whether anything went: what nobody owns, what has ended, and what
        waited for what it owns, which was there in the round before.
        """
        every = [
            (plural, thing) for plural, named in self.things.items() for thing in named.values()
        ]
        owners = {thing["metadata"]["uid"]: thing["metadata"] for _, thing in every}
        waited_for = set()
        going: list[tuple[str, str, bool]] = []
        for plural, thing in every:
            metadata = thing["metadata"]
            for owner in metadata.get("ownerReferences", ()):
                above = owners.get(owner["uid"])
                in_front = above is not None and FOREGROUND in above.get("finalizers", ())
                waited_for |= {owner["uid"]} if in_front else set()
                if (above is None or in_front) and "deletionTimestamp" not in metadata:
                    going.append((plural, metadata["name"], in_front and plural == "jobs"))
            container = self.containers.get(metadata["uid"])
            has_ended = container is not None and not container.running and not self.keeps_pods
            if has_ended and "deletionTimestamp" in metadata:
                going.append((plural, metadata["name"], False))
        going += [
            (plural, thing["metadata"]["name"], False)
            for plural, thing in every
            if FOREGROUND in thing["metadata"].get("finalizers", ())
            and thing["metadata"]["uid"] not in waited_for
        ]
        for plural, name, in_front in going:
            self.delete(plural, name, foreground=in_front)
        return bool(going)

    def answer(self, method: str, url: str, authorization: str, body: bytes) -> Thing:
        """Return the answer to a request; raises RefusalError."""
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if authorization == f"Bearer {RUNNER_TOKEN}":
            return self._answer_runner(method, _parse(parts.path))
        if authorization != f"Bearer {TOKEN}" or not self.knows_token:
            raise RefusalError(401, "Unauthorized")
        place = _parse(parts.path)
        if place.group == "k6.io" and not self.has_operator:
            raise RefusalError(404, "404 page not found", plain=True)
        verb = VERBS.get(method, "get" if place.name else "list")
        self.calls.append(f"{verb} {place.plural}")
        self._check_allowed(verb, place)
        if verb == "list":
            return self._answer_list(place, query)
        if verb == "create":
            return self._answer_create(place, json.loads(body))
        found = self.find(place.plural, place.name)
        if found is None:
            raise RefusalError(404, f'{place.resource} "{place.name}" not found')
        if verb == "patch":
            self.change(place.plural, place.name, json.loads(body))
        if verb == "delete":
            foreground = query.get("propagationPolicy") == "Foreground"
            self.delete(place.plural, place.name, foreground=foreground)
        return found

    def open_log(self, url: str, authorization: str) -> Iterator[bytes] | None:
        """Return a pod's log as a stream; None if the request is for something else."""
        parts = urlsplit(url)
        if not parts.path.endswith("/log"):
            return None
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.calls.append("get pods/log")
        if authorization != f"Bearer {TOKEN}" or not self.knows_token:
            raise RefusalError(401, "Unauthorized")
        place = _parse(parts.path)
        self._check_allowed("get", place._replace(plural="pods/log"))
        pod = self.find("pods", place.name)
        if pod is None:
            raise RefusalError(404, f'pods "{place.name}" not found')
        container = self.containers.get(pod["metadata"]["uid"])
        if container is None:
            raise RefusalError(
                400,
                f'container "k6" in pod "{place.name}" is waiting to start: ContainerCreating',
            )
        if query.get("follow") == "true":
            assert query["container"] == "k6"
            assert query["timestamps"] == "true"
            return container.follow(query.get("sinceTime", ""))
        return iter([text + b"\n" for _, text, _ in container.lines])

    def _answer_runner(self, method: str, place: Place) -> Thing:
        verb = VERBS.get(method, "get" if place.name else "list")
        self.calls.append(f"runner: {verb} {place.plural}")
        bound = {binding["roleRef"]["name"] for binding in self.list_things("rolebindings")}
        rules = [
            rule
            for role in self.list_things("roles")
            if role["metadata"]["name"] in bound
            for rule in role["rules"]
        ]
        for rule in rules:
            may = verb in rule["verbs"] and place.plural in rule["resources"]
            if may and place.name in rule["resourceNames"]:
                return self.things[place.plural][place.name]
        raise RefusalError(403, _tell_forbidden(verb, place.plural, "", place.namespace))

    def _check_allowed(self, verb: str, place: Place) -> None:
        if (verb, place.plural) in self._forbidden:
            raise RefusalError(
                403, _tell_forbidden(verb, place.plural, place.group, place.namespace)
            )
        refusal = self._refusals.get(f"{verb} {place.plural}")
        if refusal is not None:
            raise refusal

    def _answer_list(self, place: Place, query: Mapping[str, str]) -> Thing:
        found = self.list_things(place.plural)
        for selector in (query.get("labelSelector") or "").split(","):
            name, _, value = selector.partition("=")
            found = [
                thing
                for thing in found
                if not name or thing["metadata"].get("labels", {}).get(name) == value
            ]
        for selector in (query.get("fieldSelector") or "").split(","):
            name, _, value = selector.partition("=")
            found = [thing for thing in found if not name or thing.get(name) == value]
        kind = f"{KINDS[place.group][place.plural]}List"
        with self.lock:
            items = json.loads(json.dumps(found))
        return {"kind": kind, "metadata": {"resourceVersion": "1"}, "items": items}

    def _answer_create(self, place: Place, thing: Thing) -> Thing:
        assert thing["kind"] == KINDS[place.group][place.plural]
        if not self.has_namespace or place.namespace != NAMESPACE:
            raise RefusalError(404, f'namespaces "{place.namespace}" not found')
        name = thing["metadata"]["name"]
        with self.lock:
            if self.find(place.plural, name) is not None:
                raise RefusalError(409, f'{place.resource} "{name}" already exists')
            if place.plural == "testruns":
                for lost in self.lost_fields:
                    thing["spec"].pop(lost)
            thing = self.add(place.plural, thing)
        self.on_create(thing)
        return thing

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if server.is_web_page:
                    self._send(200, "text/html", b"<html>")
                    return
                authorization = self.headers.get("authorization", "")
                try:
                    stream = server.open_log(self.path, authorization)
                    if stream is not None:
                        self._send_stream(stream)
                        return
                    with server.lock:
                        given = server.answer(self.command, self.path, authorization, body)
                        content = json.dumps(given).encode()
                    self._send(200, "application/json", content)
                except RefusalError as refusal:
                    self._send(refusal.code, refusal.content_type, refusal.body)

            do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

            def _send(self, code: int, content_type: str, content: bytes) -> None:
                self.send_response_only(code)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _send_stream(self, stream: Iterator[bytes]) -> None:
                self.send_response_only(200)
                self.send_header("content-type", "text/plain")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                cut = server.cuts.pop(0) if server.cuts else None
                sent = 0
                for piece in stream:
                    whole = piece if cut is None else piece[: cut.after - sent]
                    if whole:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(whole), whole))
                    sent += len(whole)
                    if cut is not None and sent >= cut.after:
                        self.close_connection = True
                        if not cut.clean:
                            return
                        break
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


def _parse(path: str) -> Place:
    match path.strip("/").split("/"):
        case ["api", version, "namespaces", namespace, *rest]:
            group = ""
        case ["apis", group, version, "namespaces", namespace, *rest]:
            pass
        case _:
            raise RefusalError(404, "404 page not found", plain=True)
    plural, name, part = (*rest, "", "", "")[:3]
    if plural not in KINDS.get(group, {}):
        raise RefusalError(404, "404 page not found", plain=True)
    return Place(group, version, namespace, plural, name, part)


def _tell_forbidden(verb: str, resource: str, group: str, namespace: str) -> str:
    return (
        f'{resource.partition("/")[0]}{f".{group}" if group else ""} is forbidden: User "{USER}" '
        f'cannot {verb} resource "{resource}" in API group "{group}" in the namespace "{namespace}"'
    )


def _merge(target: Thing, patch: Thing) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


@contextmanager
def serve_kubernetes() -> Iterator[KubernetesServer]:
    """Serve for the length of the block."""
    server = KubernetesServer()
    try:
        yield server
    finally:
        server.close()
