"""The k6 scripts: in the package that was built, or beside it in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
_PACKAGED = PACKAGE / "scripts"
IS_PACKAGED = _PACKAGED.is_dir()
SCRIPTS = _PACKAGED if IS_PACKAGED else PACKAGE.parent / "k6"
