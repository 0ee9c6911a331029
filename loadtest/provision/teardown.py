"""Remove what provisioning made, on the server, in GitHub and on disk; list what stays."""

import time
from collections.abc import Callable, Iterator

from loadtest.common.redaction import SecretStr
from loadtest.config.env_file import parse_env_file
from loadtest.config.settings import Settings
from loadtest.errors import LoadtestError, ProvisionError, TargetError
from loadtest.github.secrets import open_secrets
from loadtest.provision.provisioner import BASE_URL, Provisioner, ProvisionStep
from loadtest.provision.records import OWNED_FILE, REPOSITORIES_FILE, read_owner, read_repositories
from loadtest.state.bearers import BEARER_FILE
from loadtest.state.clients import CLIENTS_FILE
from loadtest.state.credentials import EMAIL, NEXT, PASSWORD, TOTP_SECRET, WORKSPACE_ID, KnownUser
from loadtest.state.removal import STATE_FILES, TARGET_FILES, check_own, remove_empty, remove_known
from loadtest.target.rest_client import Accounts, build_slug


def teardown(
    settings: Settings,
    base_url: str | None,
    say: Callable[[str], None],
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> tuple[ProvisionStep, ...]:
    """Remove what we made on the server and in GitHub, list what stays, delete the local files.

    Credentials that still work are kept, and so are the files whose content mint could not revoke.
    `base_url` is None for a reference target, whose state is local. Raises TargetError while
    another process serves that state.
    """
    work = _Teardown(settings, base_url or "", say, pause, github_secrets=False, clock=clock)
    check_own(settings.state_dir)
    with work.lock():
        steps = work.remove_all() if base_url else ()
        return (*steps, *_wipe(settings, tuple(work.list_kept())))


def _wipe(settings: Settings, kept: tuple[str, ...]) -> Iterator[ProvisionStep]:
    """Remove the environment's own files except those in `kept`; list what stays."""
    target = settings.state_dir / "target"
    if target.is_dir():
        from filelock import FileLock, Timeout

        try:
            FileLock(target / "lock").acquire(timeout=0).lock.release()
        except Timeout:
            raise TargetError(f"{target} is in use by a running target: stop it first") from None
    remove_known(settings.state_dir, (*TARGET_FILES, *STATE_FILES), kept)
    what = f"local files of environment {settings.environment_name}"
    if settings.is_reference():
        what += ", including the target's users and workspaces"
    yield ProvisionStep(what, "removed")
    for path in remove_empty(settings.state_dir):
        state = "kept (its content still works)" if path.name in kept else "left (not made by us)"
        yield ProvisionStep(str(path.relative_to(settings.root)), state)


class _Teardown(Provisioner):
    """Removes what a provisioner made."""

    def remove_all(self) -> tuple[ProvisionStep, ...]:
        """Remove user, workspace and secrets where possible; give the reason for the rest."""
        with self.open_accounts() as accounts:
            known = self.file.read()
            try:
                password = self.sign_in(accounts, known)
                why, lasts = "no known password works", self.holds_credentials()
            except ProvisionError as failure:
                password, why, lasts = None, str(failure), True
            if password is None:
                reason = f"cannot be removed ({why})"
                steps = [ProvisionStep(f"user {known.email} and its workspaces", reason, lasts)]
            else:
                steps = [
                    *self.remove_workspaces(accounts, known),
                    self.remove_user(accounts, known.email, password),
                ]
        self.steps = [*steps, *self.remove_secrets()]
        return tuple(self.steps)

    def list_kept(self) -> Iterator[str]:
        """Name the local files whose content still works on the server or at GitHub."""
        if not self.settings.is_reference():
            # What `inv revoke` left in these files could not be revoked.
            yield from (BEARER_FILE, CLIENTS_FILE)
        if not self.base_url:
            return
        states = {step.what.split()[0]: step.state for step in self.steps}
        if states["user"] != "removed" and self.holds_credentials():
            yield from (self.file.path.name, OWNED_FILE)
        yield from (path.name for path in self.file.list_aside())
        if any(step.lasts for step in self.steps if step.what.startswith("GitHub")):
            yield REPOSITORIES_FILE

    def holds_credentials(self) -> bool:
        """Return whether the user's file holds a secret."""
        return bool(parse_env_file(self.file.path).keys() & {PASSWORD, NEXT, TOTP_SECRET})

    def remove_workspaces(self, accounts: Accounts, known: KnownUser) -> Iterator[ProvisionStep]:
        """Remove the workspace that we made, with its data; check that it is gone."""
        for found in accounts.list_workspaces(known.email):
            what = f"workspace {found['id']} with its data"
            if found["slug"] != build_slug(known.email):
                yield ProvisionStep(what, "left (not made by us)")
                continue
            reason = _attempt(lambda found=found: accounts.delete_workspace(found["id"]))  # type: ignore[misc]
            if reason is None and found in accounts.list_workspaces(known.email):
                reason = "the server reported success, but it still exists"
            state = "removed" if reason is None else f"cannot be removed ({reason})"
            yield ProvisionStep(what, state)

    def remove_user(self, accounts: Accounts, email: str, password: SecretStr) -> ProvisionStep:
        """Remove the user if we made it; check that it is gone."""
        if read_owner(self.settings) != email:
            return ProvisionStep(f"user {email}", "left (not made by us)")
        reason = _attempt(lambda: accounts.delete_user(password))
        if reason is None and accounts.sign_in(email, password):
            reason = "the server reported success, but it still signs in"
        if reason is None:
            return ProvisionStep(f"user {email}", "removed")
        return ProvisionStep(f"user {email}", f"cannot be removed ({reason})", lasts=True)

    def remove_secrets(self) -> Iterator[ProvisionStep]:
        """Remove the credentials from the GitHub secrets."""
        for place in read_repositories(self.settings):
            what = f"GitHub secrets of {place['repository']}"
            try:
                repository = open_secrets(self.settings.variables, self.pause, **place)
                repository.delete(BASE_URL, EMAIL, PASSWORD, WORKSPACE_ID, NEXT, TOTP_SECRET)
            except LoadtestError as failure:
                yield ProvisionStep(what, f"cannot be removed ({failure})", lasts=True)
            else:
                yield ProvisionStep(what, "removed")


def _attempt(remove: Callable[[], str | None]) -> str | None:
    """Remove one thing; return the reason if it could not be removed, such as no answer."""
    try:
        return remove()
    except ProvisionError as failure:
        return str(failure)
