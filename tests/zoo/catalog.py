"""The servers: how each is started, which tools are called, and what its run must show."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.compare.lost_sessions import Cause
from tests.support.checkout import ROOT

HERE = Path(__file__).parent
SERVERS = HERE / "servers"
NODE_MODULES = HERE / "node_modules" / "@modelcontextprotocol"
SDK_EXAMPLES = NODE_MODULES / "sdk" / "dist" / "esm" / "examples" / "server"
PACKAGE_JSON = HERE / "package.json"
REQUIREMENTS = ROOT / "requirements"
GO_MOD = REQUIREMENTS / "zoo-go" / "go.mod"
POM = REQUIREMENTS / "zoo-java" / "pom.xml"


@dataclass(frozen=True)
class Places:
    """The programs and the folder of packages that `nox -s zoo` made."""

    node: str
    python: str
    packages: Path


@dataclass(frozen=True)
class Shown:
    """What a run showed: the revision, the highest sustained stage, and why calls failed.

    `lost_by` is the likely cause of lost sessions.
    """

    revision: str
    sustained: int | None
    failures: tuple[str, ...] = ()
    lost_by: Cause | None = None


@dataclass(frozen=True)
class Server:
    """A server that others wrote, or a few lines that use their SDK.

    `pinned_in` names the file with its version, `variables` are those of its process. `tools` are
    called as the draft of a table has them, `beside` are the other sections of the table. `shown`
    is what its run must show.
    """

    name: str
    title: str
    language: str
    package: str
    pinned_in: Path
    command: Callable[[Places], list[str]]
    tools: tuple[str, ...]
    shown: Shown
    variables: Callable[[Places], Mapping[str, str]] = lambda _: {}
    path: str = "/mcp"
    replicas: int = 1
    stages: tuple[int, ...] = (1, 4)
    pace_seconds: int = 1
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    signs_in: bool = False

    def find_version(self) -> str:
        """Return the pinned version."""
        text = self.pinned_in.read_text(encoding="utf-8")
        if self.pinned_in == PACKAGE_JSON:
            return str(json.loads(text)["dependencies"][self.package])
        name = re.escape(self.package.rsplit(":", maxsplit=1)[-1])
        found = re.search(rf"\b{name}(?:==| v|</artifactId>\s*<version>)([^\s<]+)", text)
        assert found is not None, f"{self.pinned_in} does not pin {self.package}"
        return found[1]


def run_python(script: str) -> Callable[[Places], list[str]]:
    """Return the command of a Python server; `-S` keeps the session's own packages from it."""
    return lambda places: [places.python, "-S", str(SERVERS / script)]


def use_packages(folder: str) -> Callable[[Places], Mapping[str, str]]:
    """Return the variables with which a Python server uses the packages of a folder."""
    return lambda places: {"PYTHONPATH": str(places.packages / folder)}


def run_node(script: Path, *arguments: str) -> Callable[[Places], list[str]]:
    """Return the command of a Node server."""
    return lambda places: [places.node, str(script), *arguments]


def run_everything_of_go(places: Places) -> list[str]:
    """Return the command of the Go SDK's example."""
    return [str(places.packages / "go" / "everything"), "-http", "127.0.0.1:0"]


def run_java(script: str) -> Callable[[Places], list[str]]:
    """Return the command that compiles and runs one file of Java."""
    return lambda places: ["java", "-cp", f"{places.packages}/java/*", str(SERVERS / script)]


EVERYTHING = NODE_MODULES / "server-everything" / "dist" / "index.js"

SERVERS_OF_OTHERS = (
    Server(
        "fastmcp",
        "FastMCP, behind its OAuth",
        "Python",
        "fastmcp",
        REQUIREMENTS / "zoo-fastmcp.txt",
        run_python("fastmcp_notes.py"),
        ("search", "get_note"),
        Shown("2026-07-28", sustained=4),
        use_packages("fastmcp"),
        signs_in=True,
    ),
    Server(
        "python-sdk-1",
        "MCP Python SDK 1, at most 3 sessions",
        "Python",
        "mcp",
        REQUIREMENTS / "zoo-mcp-1.txt",
        run_python("mcp_1.py"),
        ("add",),
        Shown("2025-11-25", sustained=2, failures=("capacity",)),
        use_packages("mcp-1"),
        stages=(1, 2, 6),
    ),
    Server(
        "python-sdk-2",
        "MCP Python SDK 2, a tool of 1.2 s called every 2 s",
        "Python",
        "mcp",
        REQUIREMENTS / "interop.txt",
        lambda places: [places.python, str(SERVERS / "mcp_2.py")],
        ("report",),
        Shown("2026-07-28", sustained=4),
        pace_seconds=2,
    ),
    Server(
        "typescript-sdk-1",
        "MCP TypeScript SDK 1, its example `simpleStreamableHttp`",
        "JavaScript",
        "@modelcontextprotocol/sdk",
        PACKAGE_JSON,
        run_node(SDK_EXAMPLES / "simpleStreamableHttp.js"),
        ("greet",),
        Shown("2025-11-25", sustained=4),
        lambda _: {"MCP_PORT": "0"},
    ),
    Server(
        "typescript-sdk-2",
        "MCP TypeScript SDK 2, only revision 2026-07-28",
        "JavaScript",
        "@modelcontextprotocol/server",
        PACKAGE_JSON,
        run_node(SERVERS / "sdk_2.mjs"),
        ("shout",),
        Shown("2026-07-28", sustained=4),
    ),
    Server(
        "everything",
        "`server-everything`",
        "JavaScript",
        "@modelcontextprotocol/server-everything",
        PACKAGE_JSON,
        run_node(EVERYTHING, "streamableHttp"),
        ("echo",),
        Shown("2025-11-25", sustained=4),
        lambda _: {"PORT": "0"},
        beside={
            "resources": {
                "text": {
                    "weight": 1,
                    "uri": "demo://resource/dynamic/text/{resourceId}",
                    "arguments": [{"resourceId": 1}, {"resourceId": 2}],
                }
            },
            "prompts": {"args-prompt": {"weight": 1, "arguments": [{"city": "Berlin"}]}},
            "completions": {
                "departments": {
                    "weight": 1,
                    "prompt": "completable-prompt",
                    "arguments": [{"department": "E"}],
                }
            },
        },
    ),
    Server(
        "everything-replicas",
        "`server-everything`, two replicas without stickiness",
        "JavaScript",
        "@modelcontextprotocol/server-everything",
        PACKAGE_JSON,
        run_node(EVERYTHING, "streamableHttp"),
        ("echo",),
        Shown("2025-11-25", sustained=None, failures=("session_lost",), lost_by="replicas"),
        lambda _: {"PORT": "0"},
        replicas=2,
    ),
    Server(
        "go-sdk",
        "MCP Go SDK, its example `everything`",
        "Go",
        "github.com/modelcontextprotocol/go-sdk",
        GO_MOD,
        run_everything_of_go,
        ("greet",),
        Shown("2025-11-25", sustained=4),
        path="/",
        beside={
            "resources": {"embedded:info": {"weight": 1}},
            "prompts": {"hello": {"weight": 1, "prompt": "greet", "arguments": [{"name": "Ada"}]}},
        },
    ),
    Server(
        "go-sdk-replicas",
        "MCP Go SDK, two replicas without stickiness",
        "Go",
        "github.com/modelcontextprotocol/go-sdk",
        GO_MOD,
        run_everything_of_go,
        ("greet",),
        Shown("2025-11-25", sustained=None, failures=("session_lost",), lost_by="replicas"),
        path="/",
        replicas=2,
    ),
    Server(
        "java-sdk",
        "MCP Java SDK in Jetty",
        "Java",
        "io.modelcontextprotocol.sdk:mcp",
        POM,
        run_java("Notes.java"),
        ("get_note",),
        Shown("2025-11-25", sustained=4),
    ),
)
