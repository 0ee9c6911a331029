"""Enrol an authenticator app for the load-test user: store its secret first, then confirm it.

A first code confirms the secret. Wherever this is interrupted, either a sign-in needs no code, or
the file (and the GitHub secrets, if they are in use) hold the secret that makes the code.
"""

from contextlib import suppress

from loadtest.common.redaction import SecretStr
from loadtest.errors import LoadtestError, ProvisionError
from loadtest.provision.rotation import Places
from loadtest.state.credentials import TOTP_SECRET
from loadtest.target.rest_client import Accounts, NoAnswerError


def enroll(accounts: Accounts, password: SecretStr, places: Places) -> None:
    """Enrol an authenticator for the signed-in user; raise ProvisionError if none is enrolled."""
    secret = accounts.start_enrollment(password)
    places.file.keep({TOTP_SECRET: secret})
    try:
        places.put({TOTP_SECRET: secret})
        accounts.confirm_enrollment(secret)
    except NoAnswerError:
        # The server may have enrolled it: keep the secret; the next sign-in shows which.
        raise
    except LoadtestError as failure:
        for repository in places.repositories:
            with suppress(LoadtestError):
                repository.delete(TOTP_SECRET)
        places.file.keep({TOTP_SECRET: None})
        raise ProvisionError(f"no authenticator was enrolled: {failure}") from None
