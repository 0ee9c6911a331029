"""Errors that a user can fix: one class and one exit code per stage.

`docs/reference/exit-codes.md` explains each code under the anchor `exit-<code>`; the last line of
a task's output names it.
"""

import errno


class LoadtestError(Exception):
    """Something the user can fix; shown as one line, without a traceback."""

    exit_code = 1


class UsageError(LoadtestError):
    """An option or argument is wrong."""

    exit_code = 2


class ConfigError(LoadtestError):
    """A setting, variable or configuration file is missing or wrong."""

    exit_code = 10


class TargetError(LoadtestError):
    """The target cannot be started or reached."""

    exit_code = 11


class CertificateError(TargetError):
    """The target answers, but its certificate cannot be trusted."""


class ProvisionError(LoadtestError):
    """The user, workspace or data could not be made."""

    exit_code = 12


class BrowserError(LoadtestError):
    """No usable browser was found, or it could not be started."""

    exit_code = 13


class MintError(LoadtestError):
    """The OAuth flow did not end in a usable bearer.

    `step` is the step that failed, `reason` what a page showed (such as `wrong_password`), and
    `code` the `error` from the authorization server (RFC 6749, sections 4.1.2.1 and 5.2).
    """

    exit_code = 14

    def __init__(
        self,
        message: str,
        step: str | None = None,
        *,
        reason: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(f"mint failed at {step}: {message}" if step else message)
        self.message = message
        self.step = step
        self.reason = reason
        self.code = code


class K6Error(LoadtestError):
    """k6 is missing, too old, or failed to measure."""

    exit_code = 15


class ResultsError(LoadtestError):
    """A run folder or one of its files is missing, damaged or too new."""

    exit_code = 16


class ReportError(LoadtestError):
    """The report could not be written or posted."""

    exit_code = 17


class DocsError(LoadtestError):
    """A performance page could not be read or rewritten."""

    exit_code = 18


class BusyError(LoadtestError):
    """Another process is using the environment."""

    exit_code = 19


class HistoryError(LoadtestError):
    """A scheduled run is missing in the history."""

    exit_code = 20


class LeakError(LoadtestError):
    """The target does not get back what clients have left."""

    exit_code = 94


class MachineError(LoadtestError):
    """This machine refuses a file: a full disk, a missing permission, something in its place."""

    exit_code = 74


_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some disk space"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "give yourself write permission"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST), "move away what is in its place"),
    **dict.fromkeys((errno.ELOOP, errno.ENOENT), "check its path"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
    errno.EFBIG: "allow larger files (ulimit -f)",
}


def explain_refusal(failure: OSError) -> MachineError:
    """Return one line: the file, what the operating system refused, and what to do."""
    where = f"{failure.filename}: " if failure.filename is not None else ""
    reason = failure.strerror or type(failure).__name__
    remedy = _REMEDIES.get(failure.errno or 0, "see this machine's log")
    return MachineError(f"{where}{reason}: {remedy}")
