"""Change the password everywhere or nowhere.

Store it as the next password, send it, prove it by a sign-in, then store it everywhere. Wherever
this is interrupted, the file (and the GitHub secrets, if they are in use) hold a password that
signs in, and the next run finds it.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from loadtest.common.command_name import spell
from loadtest.common.redaction import SecretStr
from loadtest.errors import LoadtestError, ProvisionError
from loadtest.github.secrets import RepositorySecrets
from loadtest.state.credentials import NEXT, PASSWORD, CredentialsFile
from loadtest.target.rest_client import Accounts, NoAnswerError


@dataclass(frozen=True)
class Places:
    """Every place that stores the password, apart from the server."""

    file: CredentialsFile
    repositories: Sequence[RepositorySecrets]

    def put(self, values: Mapping[str, SecretStr]) -> None:
        """Write secrets into each repository."""
        for repository in self.repositories:
            repository.put(values)

    def settle(self, password: SecretStr, others: Sequence[SecretStr]) -> None:
        """Make the password that signs in the only one, everywhere."""
        self.put({PASSWORD: password})
        for repository in self.repositories:
            repository.delete(NEXT)
        self.file.promote(password, others)


def invent_password(hide: Callable[[SecretStr], None]) -> SecretStr:
    """Return a new password of 192 bits; hide it from the logs first."""
    password = SecretStr(secrets.token_urlsafe(24))
    hide(password)
    return password


def change_password(
    accounts: Accounts,
    email: str,
    current: SecretStr,
    new: SecretStr,
    places: Places,
    say: Callable[[str], None],
) -> None:
    """Change the signed-in user's password, and sign in with the new one.

    Raises ProvisionError that names the password that works now.
    """
    places.file.keep({NEXT: new})
    try:
        places.put({NEXT: new})
    except LoadtestError as failure:
        _forget(places)
        raise ProvisionError(f"the password was not changed: {failure}") from None
    _change_on_server(accounts, email, current, new, places)
    try:
        places.put({PASSWORD: new})
        places.file.promote(new, [current])
    except (LoadtestError, OSError) as failure:
        _roll_back(accounts, email, current, new, places, failure)
    for repository in places.repositories:
        try:
            repository.delete(NEXT)
        except LoadtestError as failure:
            say(f"secret {NEXT} stays in {repository.repository}: {failure}")


def _change_on_server(
    accounts: Accounts, email: str, current: SecretStr, new: SecretStr, places: Places
) -> None:
    """Change it, then check by a sign-in, which counts more than the server's answer."""
    refusal = "the server reported success"
    try:
        accounts.change_password(current, new)
    except NoAnswerError as failure:
        refusal = str(failure)
    except ProvisionError as failure:
        _forget(places)
        raise ProvisionError(f"{failure}: the old password stays") from None
    try:
        changed = accounts.sign_in(email, new)
        unchanged = not changed and accounts.sign_in(email, current)
    except ProvisionError as failure:
        raise ProvisionError(
            f"it is not known whether the password was changed ({failure}): both passwords are in "
            f"{places.file.path}, and the next `{spell('provision')}` finds out"
        ) from None
    if unchanged:
        _forget(places)
        raise ProvisionError(f"the password was not changed ({refusal}): the old one stays")
    if not changed:
        raise ProvisionError(
            f"cannot sign in as {email} with the old or the new password; both are in "
            f"{places.file.path}"
        )


def _roll_back(
    accounts: Accounts,
    email: str,
    current: SecretStr,
    new: SecretStr,
    places: Places,
    reason: Exception,
) -> None:
    """Undo the change on the server, then everywhere the new password was stored; raise."""
    try:
        accounts.change_password(new, current)
        restored = accounts.sign_in(email, current)
    except ProvisionError:
        restored = False
    if not restored:
        raise ProvisionError(
            f"the server has the new password ({NEXT} in {places.file.path}), but not every other "
            f"place has it ({reason}): run `{spell('provision --verify')}` again to finish"
        ) from None
    # If a place fails again, the file keeps NEXT, and the next run finishes the change.
    with suppress(LoadtestError, OSError):
        places.settle(current, [new])
    raise ProvisionError(f"the password was changed back, the old one stays: {reason}") from None


def _forget(places: Places) -> None:
    """Delete a next password that the server did not accept."""
    for repository in places.repositories:
        with suppress(LoadtestError):
            repository.delete(NEXT)
    places.file.keep({NEXT: None})
