"""Run each task in its own virtual environment; CI calls only these sessions."""

import hashlib
import os
import shutil
import sys
import tomllib
from pathlib import Path

import nox

# The command `nox` does not look for modules beside the noxfile.
sys.path.insert(0, str(Path(__file__).resolve().parent))

# The sessions of the tasks, as in anybody's noxfile.
from loadtest.nox import BROWSER_RECORD, ensure_browser, install, run_module

# The quick start puts Nox itself on PYTHONPATH; sessions must not use those packages.
os.environ.pop("PYTHONPATH", None)

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
nox.options.sessions = ["loadtest"]

REQUIREMENTS = Path("requirements")
WORKFLOWS = Path(".github/workflows")
ACTION = "action.yml"
INTEROP = Path("tests/interop")
ZOO = Path("tests/zoo")
# Tests run on several workers; tests/conftest.py sets their number and the order of the tests.
WORKERS = ("--numprocesses=auto", "--dist=loadgroup", "--no-loadscope-reorder")
# Go modules, whose go.sum pins by hash.
ACTIONLINT = REQUIREMENTS / "actionlint"
K6_NEXT = REQUIREMENTS / "k6-next"
KUBERNETES = REQUIREMENTS / "kubernetes"
ZOO_GO = REQUIREMENTS / "zoo-go"
# A Maven project. Maven pins by version; SHA256SUMS beside it pins by hash.
ZOO_JAVA = REQUIREMENTS / "zoo-java"
# Groups that share no versions with what we run: servers under test, and rivals of our verdicts.
APART_GROUPS = ("rivals", "zoo-fastmcp", "zoo-mcp-1")


def install_with_node(session: nox.Session, project: Path) -> None:
    """Install what the tests need, a browser, Node, and the npm packages that a project pins."""
    install(session, "interop")
    ensure_browser(session)
    with session.chdir(project):
        session.run("npm", "ci", "--prefer-offline", silent=True)


def install_jars(session: nox.Session, project: Path, folder: Path) -> None:
    """Copy the jars that a Maven project names into a folder, and check their hashes."""
    shutil.rmtree(folder, ignore_errors=True)
    copy = ("mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies")
    session.run(
        *copy, f"--file={project / 'pom.xml'}", f"-DoutputDirectory={folder}", external=True
    )
    jars = sorted(folder.glob("*.jar"))
    found = [f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}" for jar in jars]
    if found != (project / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        session.error(f"the jars in {folder} are not those of {project / 'SHA256SUMS'}")


def build_tools(session: nox.Session, module: Path, folder: Path | None = None) -> Path:
    """Build the tools that a Go module pins; return their folder."""
    folder = folder or (Path(session.virtualenv.location) / "go").resolve()
    with session.chdir(module):
        build = ("go", "install", "-mod=readonly", "-trimpath", "tool")
        session.run(*build, env={"GOBIN": str(folder)}, external=True)
    return folder


def build_tool(session: nox.Session, module: Path, name: str) -> str:
    """Build the one tool that a Go module pins; return its path."""
    folder = build_tools(session, module)
    binary = shutil.which(name, path=folder)
    if binary is None:
        session.error(f"Go built no {name} in {folder}")
    return binary


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, with the real browser and the real k6."""
    install(session, "tests")
    ensure_browser(session)
    run_module(session, "pytest", *WORKERS, *session.posargs)


@nox.session
def interop(session: nox.Session) -> None:
    """Test against software of others: an OAuth server, Mermaid, GitHub, MDX, Kubernetes."""
    install_with_node(session, INTEROP)
    tests = ["pytest", *WORKERS, str(INTEROP)]
    if shutil.which("go") is None:
        session.warn("Go is not installed: the tests against Kubernetes are skipped")
        tests.append(f"--ignore-glob={INTEROP / 'test_kubernetes_*'}")
        run_module(session, *tests, *session.posargs)
    else:
        binaries = build_tools(session, KUBERNETES)
        run_module(session, *tests, *session.posargs, KUBERNETES_BIN=str(binaries))


@nox.session
def zoo(session: nox.Session) -> None:
    """Measure servers that others wrote, in Python, JavaScript, Go and Java."""
    if shutil.which("go") is None or shutil.which("mvn") is None:
        session.skip("Go or Maven is not installed, and some of the servers are built with them")
    install_with_node(session, ZOO)
    packages = (Path(session.virtualenv.location) / "servers").resolve()
    for group in APART_GROUPS:
        folder = packages / group.removeprefix("zoo-")
        requirements = ("--require-hashes", "-r", str(REQUIREMENTS / f"{group}.txt"))
        session.install("--target", str(folder), *requirements)
    build_tools(session, ZOO_GO, packages / "go")
    install_jars(session, ZOO_JAVA, packages / "java")
    run_module(session, "pytest", *WORKERS, str(ZOO), *session.posargs, ZOO_PACKAGES=str(packages))


@nox.session
def k6_next(session: nox.Session) -> None:
    """Run the k6 tests and the whole chain with the next major version of k6, built with Go."""
    if shutil.which("go") is None:
        session.skip("Go is not installed, and k6 is built with it")
    install(session, "tests")
    ensure_browser(session)
    binary = build_tool(session, K6_NEXT, "k6")
    folder = Path("tests/k6")
    in_cluster = (
        folder / "kubernetes" / name for name in ("test_runners.py", "test_cluster_task.py")
    )
    tests = map(str, (*folder.glob("test_*.py"), folder / "distributed", *in_cluster))
    options = (*WORKERS, "-m", "not soak")
    run_module(session, "pytest", *options, *tests, *session.posargs, K6_BIN=binary)
    run_module(session, "invoke", "loadtest", K6_BIN=binary)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types, import directions, the k6 scripts and the workflows."""
    install(session, "dev")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")
    for script in sorted(Path("k6").glob("*.js")):
        session.run("python", "-m", "loadtest.k6", "inspect", str(script))
    lint_workflows(session)


def lint_workflows(session: nox.Session) -> None:
    """Check the workflows and the action: GitHub's schema, security, expressions."""
    schema = ("check-jsonschema", "--builtin-schema")
    session.run(*schema, "vendor.github-workflows", *map(str, sorted(WORKFLOWS.glob("*.yml"))))
    session.run(*schema, "vendor.github-actions", ACTION)
    session.run(*schema, "vendor.dependabot", str(WORKFLOWS.parent / "dependabot.yml"))
    audited = (str(WORKFLOWS.parent), ACTION)
    session.run("zizmor", "--quiet", "--offline", "--persona", "auditor", *audited)
    if shutil.which("go") is None:
        session.warn("Go is not installed: actionlint does not check the workflows")
    else:
        session.run(build_tool(session, ACTIONLINT, "actionlint"), external=True)


@nox.session
def build(session: nox.Session) -> None:
    """Build the package, and run it as a user does who has nothing else."""
    install(session, "build")
    place = Path(session.create_tmp()).resolve()
    shutil.rmtree(place)
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(place / "dist"))
    built = [str(path) for path in (place / "dist").iterdir()]
    session.run("twine", "check", "--strict", *built)
    (wheel,) = (path for path in built if path.endswith(".whl"))
    project = place / "an empty folder"
    project.mkdir()
    (project / "noxfile.py").write_text("import loadtest.nox\n", encoding="utf-8")
    python = str(place / "environment")
    session.run("uv", "venv", "--quiet", python)
    given = f"mcp-loadtest[all,nox] @ {Path(wheel).as_uri()}"
    pins = ("--constraint", str((REQUIREMENTS / "all.txt").resolve()))
    session.run("uv", "pip", "install", "--quiet", "--python", python, *pins, given)
    with session.chdir(project):
        commands = str(place / "environment" / "bin")
        session.run(f"{commands}/mcp-loadtest", "--version", external=True)
        session.run(f"{commands}/mcp-loadtest", external=True)
        # The same in an environment that Nox makes, as in a user's noxfile.
        session.run(f"{commands}/nox", "-s", "report", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the figures in the docs: wall times, and ratios measured side by side."""
    install(session, "dev")
    ensure_browser(session)
    session.run("python", "-m", "tests.bench", *session.posargs)


@nox.session
def pictures(session: nox.Session) -> None:
    """Take the README's pictures again from real runs."""
    install_with_node(session, INTEROP)
    session.run("python", "-m", "tests.pictures")


@nox.session
def dev(session: nox.Session) -> None:
    """Make one .venv with all dependencies, for running `inv` by hand."""
    install(session, "nox")
    session.run("uv", "venv", "--quiet", "--allow-existing", ".venv")
    session.run(
        *("uv", "pip", "install", "--quiet", "--python", ".venv", "--require-hashes"),
        *("-r", str(REQUIREMENTS / "dev.txt")),
    )
    run = ("uv", "run", "--quiet", "--no-project", "--python", ".venv")
    session.run(*run, "python", "-m", "loadtest.mint.browser.launcher", BROWSER_RECORD)


@nox.session
def pins(session: nox.Session) -> None:
    """Resolve every extra and group again; `-- --upgrade` selects the newest versions."""
    install(session, "nox")
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    everything = ("--all-extras", "--group", "pyproject.toml:dev")
    stages = project["project"]["optional-dependencies"].keys() - {"nox"}
    groups = {name: ("--group", f"pyproject.toml:{name}") for name in project["dependency-groups"]}
    for group in APART_GROUPS:
        compile_pins(session, group, *groups.pop(group), *session.posargs)
    compile_pins(session, "dev", "pyproject.toml", *everything, *session.posargs)
    del groups["dev"]
    alike = ("--constraint", str(REQUIREMENTS / "dev.txt"))
    for extra in sorted(stages):
        compile_pins(session, extra, "pyproject.toml", "--extra", extra, *alike)
    for group, chosen in groups.items():
        # The tests run the whole package.
        package = () if group in {"build", "nox"} else ("pyproject.toml", "--extra", "all")
        compile_pins(session, group, *package, *chosen, *alike)


def compile_pins(session: nox.Session, name: str, *sources: str) -> None:
    """Write the pins of an extra or a group."""
    session.run(
        *("uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"),
        *("--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url"),
        *("--no-emit-find-links", "--no-emit-package", "mcp-loadtest", *sources),
        *("--output-file", str(REQUIREMENTS / f"{name}.txt")),
    )
