"""A real Prometheus: the installed one, else the binary of Debian's package, without root."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import httpx

UNPACKED = Path(__file__).parents[2] / ".nox" / "prometheus"
FETCH_SECONDS = 60.0
READY_SECONDS = 30.0
STOP_SECONDS = 30.0
OPTIONS = (
    "--web.listen-address=127.0.0.1:0",
    "--web.enable-remote-write-receiver",
    "--enable-feature=native-histograms",
)


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables with which k6 writes its samples to this server."""
        return {
            "K6_PROMETHEUS_RW_SERVER_URL": f"{self.url}/api/v1/write",
            "K6_PROMETHEUS_RW_TREND_AS_NATIVE_HISTOGRAM": "true",
        }

    def ask(self, expression: str) -> dict[tuple[str, ...], float]:
        """Return the values of an expression by their label values, ordered by label name."""
        answer = httpx.post(f"{self.url}/api/v1/query", data={"query": expression})
        body = answer.json()
        assert body["status"] == "success", body
        return {
            tuple(value for _, value in sorted(found["metric"].items())): float(found["value"][1])
            for found in body["data"]["result"]
        }


def describe_prometheus() -> str:
    """Return a line about which Prometheus will run."""
    own = shutil.which("prometheus")
    return own or f"none on PATH: {UNPACKED}, from Debian's package"


def ensure_prometheus() -> Path:
    """Return the installed Prometheus, or Debian's, which is downloaded once."""
    own = shutil.which("prometheus")
    if own is not None:
        return Path(own)
    if not UNPACKED.exists():
        assert shutil.which("apt-get"), "there is neither Prometheus nor apt-get here: install it"
        UNPACKED.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=UNPACKED.parent) as name:
            package = _fetch_package("prometheus", Path(name))
            root = Path(name) / "root"
            _run(["dpkg-deb", "--extract", str(package), str(root)], Path(name))
            (root / "usr" / "bin" / "prometheus").replace(UNPACKED)
    return UNPACKED


def _fetch_package(name: str, folder: Path) -> Path:
    """Download a package; if apt's lists are missing or old, fetch our own."""
    try:
        _run(["apt-get", "download", name], folder)
    except subprocess.CalledProcessError:
        lists, cache = folder / "lists", folder / "cache"
        for place in (lists, cache / "archives"):
            (place / "partial").mkdir(parents=True)
        own = ("-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}")
        _run(["apt-get", *own, "update"], folder)
        _run(["apt-get", *own, "download", name], folder)
    return next(folder.glob(f"{name}_*.deb"))


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=FETCH_SECONDS)


@contextmanager
def serve_prometheus(binary: Path, folder: Path) -> Iterator[Prometheus]:
    """Serve inside the block, with data and configuration in the folder."""
    folder.mkdir()
    config = folder / "prometheus.yml"
    config.write_text("{}\n", encoding="utf-8")
    command = [
        *(str(binary), *OPTIONS),
        *(f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        ready: Future[str] = Future()
        follower = Thread(target=_follow, args=(process.stderr, ready))
        follower.start()
        try:
            yield Prometheus(f"http://{ready.result(READY_SECONDS)}")
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            finally:
                process.kill()
                follower.join()
    assert process.returncode == 0


def _follow(log: Iterable[bytes], ready: "Future[str]") -> None:
    """Pass on the address once the server is ready; read the log to its end."""
    text = ""
    for line in log:
        text += line.decode(errors="replace")
        address = re.search(r'msg="Listening on".* address=(\S+)', text)
        if address is not None and "Server is ready" in text and not ready.done():
            ready.set_result(address[1])
    if not ready.done():
        ready.set_exception(AssertionError(text))
