"""A pod's container as a process: its mounts, its log, and requests to the API of its k6."""

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import psutil

from tests.k6.kubernetes.kubernetes_server import Container, Thing
from tests.support.waiting import HANG_SECONDS

# Like a container runtime: longer lines are split, and each stream has its own reader.
PIECE_BYTES = 16384
START = {"data": {"attributes": {"paused": False}, "id": "default", "type": "status"}}

# The data of a ConfigMap or Secret, by plural and name.
Read = Callable[[str, str], dict[str, str]]


class Runner:
    """A container's process and log; its k6 listens on a free port instead of 6565.

    As in a container, SIGTERM reaches only the first process.
    """

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        places: Mapping[str, Path],
        k6: Path,
    ) -> None:
        self.killed_for: str | None = None
        self.lost = False
        own = {**places, "k6": k6}
        self.process = subprocess.Popen(
            [_replace_paths(word, own).replace("0.0.0.0:6565", "127.0.0.1:0") for word in command],
            env={"PATH": os.environ["PATH"]}
            | {key: _replace_paths(value, places) for key, value in environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        self.container = Container(terminate=lambda: self.process.send_signal(signal.SIGTERM))
        self._readers = []
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            reader = threading.Thread(target=_keep_log, args=(stream, self.container))
            reader.start()
            self._readers.append(reader)

    def kill(self) -> None:
        """Kill every process of the container."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end of the log; return the exit code in a container runtime's form."""
        code = self.process.wait()
        for reader in self._readers:
            reader.join(HANG_SECONDS)
        return code if code >= 0 else 128 - code

    def ask(self, method: str, body: str | None = None) -> bool:
        """Return whether k6's API accepts a request."""
        port = self._find_port()
        if port is None:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request(method, "/v1/status", body, {"Content-Type": "application/json"})
            return connection.getresponse().status == http.HTTPStatus.OK
        return False

    def resume(self) -> bool:
        """Start the paused k6, like the starter."""
        return self.ask("PATCH", json.dumps(START))

    def _find_port(self) -> int | None:
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(self.process.pid)
            for process in (first, *first.children(recursive=True)):
                for each in process.net_connections(kind="tcp"):
                    if each.status == psutil.CONN_LISTEN:
                        return int(each.laddr.port)
        return None


def mount(
    runner: Thing,
    folder: Path,
    read: Read,
    projected: Mapping[str, str],
    scripts: Mapping[str, str],
) -> dict[str, Path]:
    """Fill a folder for each mount; return the folders by their paths in the container.

    `projected` is what a projected volume holds, `scripts` what a ConfigMap's files are instead.
    """
    volumes = {volume["name"]: volume for volume in runner["volumes"]}
    places = {}
    for each in runner["volumeMounts"]:
        place = places[each["mountPath"]] = folder / each["name"]
        volume = volumes[each["name"]]
        files = dict(projected)
        if "configMap" in volume:
            data = read("configmaps", volume["configMap"]["name"])
            files = {item["path"]: data[item["key"]] for item in volume["configMap"]["items"]}
            files |= {path: text for path, text in scripts.items() if path in files}
        elif "secret" in volume:
            data = read("secrets", volume["secret"]["secretName"])
            items = volume["secret"]["items"]
            files = {item["path"]: _decode(data[item["key"]]) for item in items}
        for path, text in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text, encoding="utf-8")
    return places


def build_environment(runner: Thing, read: Read, url: str) -> dict[str, str]:
    """Return a container's variables; `url` replaces the address of the API server."""
    environment = {}
    for each in runner["env"]:
        source = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            secret = source["secretKeyRef"]
            value = _decode(read("secrets", secret["name"])[secret["key"]])
        else:
            value = each.get("value", "").replace("https://kubernetes.default.svc", url)
        environment[each["name"]] = value
    return environment


def build_status(state: Thing, name: str = "k6", *, ready: bool = False) -> Thing:
    """Return the status of a container in a kubelet's form."""
    return {
        "name": name,
        "image": "loopback/k6",
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }


def _replace_paths(text: str, places: Mapping[str, Path]) -> str:
    """Replace a container's paths in a text with the folders of this machine."""
    for path, folder in places.items():
        text = re.sub(rf"(?<!\S){re.escape(path)}(?![^\s/])", lambda _: str(folder), text)  # noqa: B023
    return text


def _decode(value: str) -> str:
    return base64.b64decode(value).decode()


def stamp() -> str:
    """Return the current time in a container runtime's format."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _keep_log(stream: IO[bytes], container: Container) -> None:
    with stream:
        while piece := stream.readline(PIECE_BYTES):
            whole = piece.endswith(b"\n")
            container.write(stamp(), piece.removesuffix(b"\n"), whole=whole)
