"""A Nox session for each task, in any noxfile: importing this module is enough.

Each session runs its task in an environment of its own, which has only the extra that the task
needs, in the versions that we test with, and the same mcp-loadtest as Nox itself has. It uses the
project of the folder in which Nox was called. The sessions do not run by default:
`nox.options.sessions` chooses those that do.
"""

import os
import signal
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import nox

from loadtest.common.distribution import DISTRIBUTION, read_origin
from loadtest.common.scripts import IS_PACKAGED

BROWSER_RECORD = ".loadtest/browser.json"
PINS = Path(__file__).with_name("pins.txt")
# How Python finds our package, whatever modules the folder of the caller contains.
IMPORTS = {"PYTHONSAFEPATH": "1"}
if not IS_PACKAGED:
    IMPORTS["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True)
class Job:
    """What the session of a task needs: an extra of the package, and a browser."""

    extra: str
    browser: bool
    doc: str


SESSIONS = {
    "loadtest": Job("all", True, "Run the whole chain: provision, mint, k6, report, docs-update."),
    "provision": Job("provision", False, "Create the load-test user, its workspace and data."),
    "mint": Job("mint", True, "Mint a bearer through OAuth in a real browser."),
    "revoke": Job("mint", False, "Undo mint: revoke tokens, delete clients, end sessions."),
    "k6": Job("k6", True, "Run the load-test scenarios."),
    "capacity": Job("all", True, "Find the most load that the target bears."),
    "leaks": Job("all", True, "Check that the server gets back what clients leave."),
    "report": Job("report", False, "Compare a run, print its tables, post its comment."),
    "docs_update": Job("docs-update", False, "Turn the TBD cells of the docs into links."),
    "compare": Job("report", False, "Print two runs side by side."),
    "history": Job("report", False, "Print all runs, accept a regression, or check the cadence."),
    "init": Job("all", True, "Draft an environment for a server of your own."),
    "doctor": Job("all", True, "List what is missing before a run."),
    "target": Job("target", False, "Serve the reference target until Ctrl-C."),
}


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Treat SIGTERM as Ctrl-C, so that Nox forwards it and the task does not keep running.

    The same holds for SIGHUP: when the terminal closes, only the task can close its resources.
    """
    raise KeyboardInterrupt


for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, interrupt)
# Compile at installation, as pip does; otherwise a task that starts in 0.4 s would need 1 s.
os.environ["UV_COMPILE_BYTECODE"] = "1"


def install(session: nox.Session, name: str) -> None:
    """Install an extra: with our package, or in a checkout only its dependencies, by hash."""
    if IS_PACKAGED:
        session.install("--constraint", str(PINS), name_requirement(name))
    else:
        session.install("--require-hashes", "-r", f"requirements/{name}.txt")


def name_requirement(extra: str) -> str:
    """Return what to install to get the same release, file or commit as here (PEP 610)."""
    origin = read_origin()
    if origin is None:
        return f"{DISTRIBUTION}[{extra}]=={version(DISTRIBUTION)}"
    url = origin["url"]
    if commit := origin.get("vcs_info"):
        url = f"{commit['vcs']}+{url}@{commit['commit_id']}"
    return f"{DISTRIBUTION}[{extra}] @ {url}"


def ensure_browser(session: nox.Session) -> None:
    """Find or install a browser, and print which one."""
    command = ("python", "-m", "loadtest.mint.browser.launcher", BROWSER_RECORD)
    session.run(*command, env=IMPORTS)


def run_module(session: nox.Session, module: str, *arguments: str, **variables: str) -> None:
    """Run a module; after an interrupt, give it time to stop k6 and to keep the results.

    Ctrl-C reaches the module directly; a SIGTERM to Nox reaches it a second later.
    """
    command = ("python", "-m", module, *arguments)
    session.run(*command, env=variables, interrupt_timeout=1.0, terminate_timeout=90.0)


def _add_session(name: str, job: Job) -> None:
    def run(session: nox.Session) -> None:
        install(session, job.extra)
        with session.chdir(session.invoked_from):
            if job.browser:
                ensure_browser(session)
            run_module(session, "loadtest", name.replace("_", "-"), *session.posargs, **IMPORTS)

    run.__doc__ = job.doc
    nox.session(name=name, default=False, reuse_venv=True, venv_backend="uv")(run)


for name, job in SESSIONS.items():
    _add_session(name, job)
