"""Ask a server how clients sign in: not at all, with a key, or by OAuth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loadtest.common.redaction import SecretStr
from loadtest.config.access import list_variables
from loadtest.config.models import Auth, Environment, Via
from loadtest.errors import MintError, ProvisionError, TargetError
from loadtest.target.mcp_client import Greeting, WorkspaceClient

if TYPE_CHECKING:
    from loadtest.mint.oauth.discovery import Discovered

KEY = "$LOADTEST_API_KEY"
KEY_HEADERS = {"Authorization": f"Bearer {KEY}", "X-Api-Key": KEY}
REFUSED_STATUSES = frozenset({401, 403})
USER = ("LOADTEST_EMAIL", "LOADTEST_PASSWORD")
GIVEN_CLIENT = ("LOADTEST_CLIENT_ID", "LOADTEST_CLIENT_SECRET")
# What is needed instead of a user.
BY_GRANT_TYPE: Mapping[Via, tuple[str, ...]] = {
    "given": ("LOADTEST_BEARER",),
    "client-credentials": ("LOADTEST_ISSUER", *GIVEN_CLIENT),
}


@dataclass(frozen=True)
class Entrance:
    """What an environment says about the access to its server, and the variables that this needs.

    `optional` are variables that only some servers need. `greeting` is None if the server
    answers nobody without credentials.
    """

    auth: Auth
    how: str
    variables: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    via: Via | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    greeting: Greeting | None = None


def find_entrance(mcp_url: str, variables: Mapping[str, str]) -> Entrance:
    """Ask without credentials; where that is refused, a bearer or a key in the variables is used.

    Raises TargetError if there is no MCP endpoint, MintError if its OAuth cannot be used.
    """
    from loadtest.mint.oauth.discovery import NO_CHALLENGE, discover
    from loadtest.mint.oauth.exchange import CLIENT_CREDENTIALS_ONLY

    visitor = WorkspaceClient(mcp_url, SecretStr(""), lambda _: None)
    greeting = None
    try:
        greeting = visitor.greet()
    except ProvisionError as failure:
        if visitor.refusal_status not in REFUSED_STATUSES:
            raise TargetError(f"{failure}: check the address, whose path is often /mcp") from None
    if greeting is None and variables.get("LOADTEST_BEARER"):
        needed = BY_GRANT_TYPE["given"]
        return Entrance("bearer", "a bearer that was given", needed, via="given")
    if greeting is None and variables.get("LOADTEST_API_KEY"):
        return build_key_entrance(next(iter(KEY_HEADERS)))
    try:
        found = discover(mcp_url)
    except MintError as failure:
        if failure.reason == CLIENT_CREDENTIALS_ONLY:
            needed = BY_GRANT_TYPE["client-credentials"]
            return Entrance("bearer", "OAuth client credentials", needed, via="client-credentials")
        if failure.reason != NO_CHALLENGE and greeting is None:
            raise
        found = None
    if found is not None and found.has_metadata:
        return _build_oauth(found, greeting)
    if greeting is not None:
        return Entrance("none", "it needs no sign-in", greeting=greeting)
    return build_key_entrance(next(iter(KEY_HEADERS)))


def build_key_entrance(header: str) -> Entrance:
    """Return the entrance by a key: `X-Api-Key`, or with a value, `X-Api-Key: $NAME`."""
    name, _, given = (part.strip() for part in header.partition(":"))
    usual = {known.lower(): value for known, value in KEY_HEADERS.items()}
    value = given or usual.get(name.lower(), KEY)
    needed = tuple(list_variables(value))
    return Entrance("header", f"a key in the header {name}", needed, headers={name: value})


def read_entrance(environment: Environment) -> Entrance:
    """Return the entrance of an environment that is there already."""
    auth, via, headers = environment.auth, environment.via, environment.headers
    needed = tuple(list_variables(*headers.values()))
    if auth == "bearer" and via in BY_GRANT_TYPE:
        needed += BY_GRANT_TYPE[via]
    elif auth == "bearer":
        needed += USER
    return Entrance(auth, "as configured", needed, via=via, headers=headers)


def _build_oauth(found: "Discovered", greeting: Greeting | None) -> Entrance:
    takes_anyone = found.takes_registrations or found.takes_documents
    needed = USER if takes_anyone else (*USER, GIVEN_CLIENT[0])
    optional = () if takes_anyone else GIVEN_CLIENT[1:]
    return Entrance("bearer", f"OAuth at {found.describe()}", needed, optional, greeting=greeting)
