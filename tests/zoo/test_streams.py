"""Servers that others wrote whose streams have an edge: it is found and named."""

from pathlib import Path

import pytest

from loadtest.config.project import CONFIG_FILE
from loadtest.results.run_folder import read_run_folder
from tests.support.waiting import HANG_SECONDS
from tests.zoo.catalog import GO_MOD, REQUIREMENTS, SERVERS, Places, Server, Shown
from tests.zoo.running import run_server
from tests.zoo.test_servers import describe_checkout, draft_table

CAPPED = Server(
    "python-sdk-2-streams",
    "MCP Python SDK 2, at most 3 streams",
    "Python",
    "mcp",
    REQUIREMENTS / "interop.txt",
    lambda places: [places.python, str(SERVERS / "streams_2.py")],
    ("add",),
    Shown("2026-07-28", sustained=None, failures=("capacity",)),
)
STAYING = Server(
    "mcp-go",
    "mcp-go, its example `conformance`",
    "Go",
    "github.com/mark3labs/mcp-go",
    GO_MOD,
    lambda places: [str(places.packages / "go" / "conformance")],
    ("test_simple_text",),
    Shown("2025-11-25", sustained=None),
    lambda _: {"CONFORMANCE_ADDR": "127.0.0.1:0"},
)
SAID = {
    CAPPED.name: ["Held 3 of 6 streams: 3 refused by a full server."],
    STAYING.name: [
        "Held 6 of 6 streams, the most that was tested.",
        "9 of 9 streams were still open after DELETE of their session",
    ],
}


@pytest.mark.parametrize("server", [CAPPED, STAYING], ids=lambda each: each.name)
@pytest.mark.timeout(2 * HANG_SECONDS)
def test_the_edge_of_its_streams_is_named(
    server: Server, places: Places, checkout: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with run_server(server.command(places), server.variables(places), tmp_path / "log") as port:
        inv = describe_checkout(checkout, server, f"http://127.0.0.1:{port}", temporary)
        with (checkout / CONFIG_FILE).open("a", encoding="utf-8") as config:
            config.write("streams = { stages = [3, 6], stage_seconds = 2 }\n")
        speaks = ("--protocol", server.shown.revision)
        draft_table(inv, checkout, server)
        done = inv("loadtest", "--tools", "tools.json", "--scenarios", "streams", *speaks)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = map(read_run_folder, (checkout / ".loadtest" / "runs").iterdir())
    assert folder.run.target.protocol_version == server.shown.revision
    output = " ".join(done.stdout.split())
    for sentence in SAID[server.name]:
        assert sentence in output
    assert ("still open after DELETE" in output) == (server is STAYING)
