"""The scripts of one scenario as a ConfigMap: flat keys, and the path that each key stands for."""

from collections.abc import Mapping

from loadtest.common.scripts import SCRIPTS
from loadtest.errors import K6Error

# Limit of all values of a ConfigMap together.
MAX_CONFIG_MAP_BYTES = 1024 * 1024
TOOLS = "tools.json"


def build_bundle(scenario: str, tools: str) -> dict[str, str]:
    """Return the files that k6 reads for one scenario; K6Error if they exceed a ConfigMap."""
    script = SCRIPTS / f"{scenario}.js"
    bundle = {
        path.relative_to(SCRIPTS).as_posix(): path.read_text(encoding="utf-8")
        for path in (script, *sorted((SCRIPTS / "lib").glob("*.js")))
    } | {TOOLS: tools}
    _check_size(bundle)
    return bundle


def name_key(path: str) -> str:
    """Return the key of a path: the keys of a ConfigMap cannot contain a slash."""
    return path.replace("/", ".")


def _check_size(bundle: Mapping[str, str]) -> None:
    sizes = {path: len(text.encode()) for path, text in bundle.items()}
    if sum(sizes.values()) > MAX_CONFIG_MAP_BYTES:
        raise K6Error(
            f"scripts and tools take {sum(sizes.values()):,} bytes, {sizes[TOOLS]:,} of them the "
            f"tool table, but a ConfigMap holds at most {MAX_CONFIG_MAP_BYTES:,}: give the "
            "tools fewer arguments, or their pools fewer values"
        )
