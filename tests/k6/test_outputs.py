"""k6's own outputs: handed through by the name that this k6 has for them, with their variables."""

import base64
import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from loadtest.config.models import USUAL_SCENARIOS
from loadtest.errors import UsageError
from loadtest.k6.binary import K6Binary
from loadtest.k6.command import build_command, build_environment
from loadtest.k6.outputs import parse_outputs, select_variables
from tests.k6.running import Endpoint, build_settings, plan_run, run_alone
from tests.support.loopback import serve_loopback

VARIABLES = {
    "K6_PROMETHEUS_RW_PASSWORD": "p",
    "K6_OTEL_HEADERS": "o",
    "K6_CSV_TIME_FORMAT": "unix_milli",
    "K6_CLOUD_TOKEN": "c",
    "PATH": "/bin",
}


def fake_k6(folder: Path, words: str) -> Path:
    """Make an executable that complains in these words."""
    path = folder / "k6"
    path.write_text(f"#!/bin/sh\necho '{words}' >&2\n", encoding="utf-8")
    path.chmod(0o700)
    return path


def test_an_output_gets_the_name_that_this_k6_has_for_it(tmp_path: Path) -> None:
    path = fake_k6(tmp_path, 'msg="no such type, available types are: csv, experimental-rw"')
    assert parse_outputs(["rw=x", "experimental-csv=y"], ["tools"], path) == (
        "experimental-rw=x",
        "csv=y",
    )
    path = fake_k6(tmp_path, "what?")
    with pytest.raises(UsageError, match="does not list its outputs"):
        parse_outputs(["csv"], ["tools"], path)
    assert parse_outputs([], USUAL_SCENARIOS, Path("/nowhere")) == ()


def test_an_output_that_this_k6_lacks_is_refused_with_a_list_of_its_outputs(
    binary: K6Binary,
) -> None:
    with pytest.raises(UsageError, match=r"--out nope=1: this k6 has .*csv.*json"):
        parse_outputs(["nope=1"], USUAL_SCENARIOS, binary.path)


def test_a_file_that_each_scenario_would_overwrite_is_refused(binary: K6Binary) -> None:
    with pytest.raises(UsageError, match=r"as in csv=\{scenario\}\.csv"):
        parse_outputs(["csv=all.csv"], USUAL_SCENARIOS, binary.path)
    assert parse_outputs(["csv=all.csv"], ["tools"], binary.path) == ("csv=all.csv",)
    outputs = parse_outputs(
        ["csv={scenario}.csv", "json=a-{scenario}"], USUAL_SCENARIOS, binary.path
    )
    command = build_command(binary, "tools", outputs)
    assert command[-3:-1] == ["--out=csv=tools.csv", "--out=json=a-tools"]


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        ((), set()),
        (("json=x",), set()),
        (("csv=x",), {"K6_CSV_TIME_FORMAT"}),
        (("experimental-prometheus-rw",), {"K6_PROMETHEUS_RW_PASSWORD"}),
        (
            ("opentelemetry", "experimental-prometheus-rw"),
            {"K6_OTEL_HEADERS", "K6_PROMETHEUS_RW_PASSWORD"},
        ),
        (("cloud",), set()),
    ],
)
def test_an_outputs_variables_reach_k6_only_when_it_is_named(
    outputs: tuple[str, ...], names: set[str], tmp_path: Path
) -> None:
    assert select_variables(outputs, VARIABLES).keys() == names
    environment = build_environment(
        VARIABLES,
        {},
        mcp_url="http://127.0.0.1:1/mcp/ws",
        bearer_file=tmp_path / "bearer.json",
        out_dir=tmp_path,
        private_variables=select_variables(outputs, VARIABLES),
    )
    assert environment.keys() & (VARIABLES.keys() - {"PATH"}) == names


@dataclass
class Sink:
    """A loopback HTTP server that takes everything; `paths` and `logins` tell what came."""

    url: str
    paths: set[str] = field(default_factory=set)
    logins: set[str] = field(default_factory=set)


@contextmanager
def serve_sink() -> Iterator[Sink]:
    """Run a sink for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            sink.paths.add(self.path)
            sink.logins.add(self.headers["Authorization"] or "")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serve_loopback(Handler) as origin:
        sink = Sink(origin)
        yield sink


@pytest.mark.slow
def test_samples_reach_prometheus_opentelemetry_and_a_file_in_one_run(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    names = ["prometheus-rw", "opentelemetry", f"csv={tmp_path}/{{scenario}}.csv"]
    with serve_sink() as sink:
        settings = build_settings(
            K6_PROMETHEUS_RW_SERVER_URL=f"{sink.url}/api/v1/write",
            K6_PROMETHEUS_RW_USERNAME="who",
            K6_PROMETHEUS_RW_PASSWORD="known",
            K6_OTEL_EXPORTER_PROTOCOL="http/protobuf",
            K6_OTEL_EXPORTER_TYPE="http",  # its name in k6 1.x
            K6_OTEL_HTTP_EXPORTER_ENDPOINT=sink.url.removeprefix("http://"),
            K6_OTEL_HTTP_EXPORTER_INSECURE="true",
        )
        outputs = parse_outputs(names, ("tools",), binary.path)
        plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file, outputs=outputs)
        run = run_alone(plan, "tools", binary, tmp_path / "out")
    assert run.result.outcome == "ok", run.result
    assert sink.paths == {"/api/v1/write", "/v1/metrics"}
    login = base64.b64encode(b"who:known").decode()
    assert sink.logins == {f"Basic {login}", ""}
    with (tmp_path / "tools.csv").open(encoding="utf-8", newline="") as lines:
        metrics = {row["metric_name"] for row in csv.DictReader(lines)}
    assert {"http_req_duration", "mcp_duration", "mcp_sessions_opened"} <= metrics
