"""An authenticator app for the load-test user: its secret is kept before the server counts on it.

Kept, then confirmed by a first code: whenever this is stopped, either sign-ins ask for no code, or
the file (and the GitHub secrets, where they are in use) hold the secret that makes it.
"""

from contextlib import suppress

from loadtest.common.redaction import SecretStr
from loadtest.errors import LoadtestError, ProvisionError
from loadtest.provision.rotation import Places
from loadtest.state.credentials import TOTP_SECRET
from loadtest.target.rest_client import Accounts, NoAnswerError


def enroll(accounts: Accounts, password: SecretStr, places: Places) -> None:
    """Enrol an authenticator for the signed-in user; raise ProvisionError where none counts."""
    secret = accounts.start_enrollment(password)
    places.file.keep({TOTP_SECRET: secret})
    try:
        places.put({TOTP_SECRET: secret})
        accounts.confirm_enrollment(secret)
    except NoAnswerError:
        # It may count by now: the secret stays, and the next sign-in finds out.
        raise
    except LoadtestError as failure:
        for repository in places.repositories:
            with suppress(LoadtestError):
                repository.delete(TOTP_SECRET)
        places.file.keep({TOTP_SECRET: None})
        raise ProvisionError(f"no authenticator was enrolled: {failure}") from None
